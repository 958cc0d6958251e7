"""Language modelling: which token comes next, learned by a decoder-only Transformer (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.checkpoint import checkpoint

from specdyn.tasks.datasets import Texts, tiny_shakespeare, wikitext2, wikitext2_shuffled, wikitext103
from specdyn.tasks.datasets.fetch import reading
from specdyn.tasks.datasets.python_text import python_text, python_text_hash
from specdyn.tasks.modular_addition import sinusoidal_positions
from specdyn.tasks.task import at_least_one, at_tier, generator, in_fifths, minibatch, one_of
from specdyn.tasks.tokens import Characters, Pieces, Vocabulary, Words

_DATASETS: dict[str, Callable[[], Texts]] = {
    "python": python_text,
    "tiny-shakespeare": tiny_shakespeare,
    "wikitext-2": wikitext2,
    "wikitext-2-shuffled": wikitext2_shuffled,
    "wikitext-103": wikitext103,
}


class Layer(nn.Module):
    """Causal self-attention, then two linear layers with a ReLU between them, each after a normalisation."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, tokens, width) with what the layer adds to it."""
        x = x + self.attention.out_proj(self._attended(self.norm1(x)))
        y: Tensor = x + self.linear2(F.relu(self.linear1(self.norm2(x))))
        return y

    def _attended(self, x: Tensor) -> Tensor:
        """Concatenated head outputs; ``nn.MultiheadAttention`` computes the same in about 1.25 times the time."""
        attention = self.attention
        fused = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (N, tokens, 3 width)
        heads = (attention.num_heads, attention.head_dim)
        query, key, value = (torch.unflatten(part, -1, heads).transpose(1, 2) for part in fused.chunk(3, dim=-1))
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (N, heads, tokens, width / heads)
        return read.transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """The paper's network: pre-LN layers, none after the last, sinusoidal positions, untied decoder with bias.

    >>> Transformer(37, 48, layers=2, width=16, heads=2, hidden=16)(torch.zeros(3, 48, dtype=torch.long)).shape
    torch.Size([3, 48, 37])
    """

    positions: Tensor

    def __init__(self, vocabulary: int, context: int, *, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.decoder = nn.Linear(width, vocabulary)
        self.register_buffer("positions", sinusoidal_positions(context, width), persistent=False)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (N, tokens, vocabulary) of the token after each of those given (N, tokens)."""
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.decoder(x)
        return logits


@dataclass(frozen=True)
class Corpus:
    """A text as token numbers, int32, on the device of the run."""

    train: Tensor
    """(blocks, context + 1), one after another."""
    train_sample: Tensor
    """The windows (evaluated, context + 1) that the training loss is measured on, spread over all blocks."""
    validation_sample: Tensor
    """Those of the validation loss; one begins with the last token of the one before, in the text."""
    test: Tensor
    """(tokens,) the whole test text."""
    vocabulary: Vocabulary
    note: str
    """What has to be said beside every number from it."""


@dataclass(frozen=True)
class LanguageModeling:
    """Settings of one run of next-token prediction (paper task T5). AdamW, gradients clipped to a norm of 1.

    ``vocabulary``: rows of the embedding, which a corpus must not exceed. ``text_hash``: which text
    ``"python"`` is, for it changes with the version of Python. ``warmup``, ``decay_steps``,
    ``final_lr_share``: the learning rate rises to its peak, then falls along a cosine to that share of it
    within so many updates: those that are left where none are given, as the paper says. The official code's
    6,660 (30 epochs, of which it makes 10) leave it at 0.81 of the peak. ``micro_batch``: windows that are in
    memory at once. ``precision``: of the products in the network; weights and losses are always float32. The
    paper's is float16 with its loss scaled up; ``"bfloat16"`` reaches as far as float32 and needs no scaling.
    ``every``: the end of an epoch, where there are any. ``evaluated``: windows the losses are measured on.

    The paper calls its network one of 160 M parameters. It has 119.8 M, here too: ``hidden`` is the width
    itself, on purpose, and not four times as much.

    Raises ``ValueError`` for unknown dataset, tokens or precision, and sizes below 1.
    """

    dataset: Literal["python", "tiny-shakespeare", "wikitext-2", "wikitext-2-shuffled", "wikitext-103"]
    tokens: Literal["characters", "words", "gpt-neox"]
    vocabulary: int
    layers: int
    width: int
    heads: int
    hidden: int
    context: int
    learning_rate: float
    weight_decay: float
    warmup: int
    final_lr_share: float
    batch_size: int
    micro_batch: int
    precision: Literal["float32", "bfloat16"]
    steps: int
    every: int
    evaluated: int
    decay_steps: int | None = None
    text_hash: str | None = None
    name: str = "language-modeling"

    def __post_init__(self) -> None:
        """Refuse what no run could be made of."""
        one_of(self, dataset=_DATASETS, tokens=_TOKENS, precision=("float32", "bfloat16"))
        at_least_one(self, "context", "batch_size", "micro_batch", "every", "evaluated")

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Initialisation, four within the first interval, then the end of every interval, as in the paper."""
        return in_fifths(self.every, self.steps)

    @property
    def pairs(self) -> Literal["direct"]:
        """Matrices of which one reads the other's outputs, not across the residual stream, as in the paper."""
        return "direct"

    def model(self) -> Transformer:
        """The network."""
        return Transformer(
            self.vocabulary, self.context, layers=self.layers, width=self.width, heads=self.heads, hidden=self.hidden
        )

    def data(self, seed: int, device: torch.device) -> Corpus:
        """The text, which does not depend on the seed.

        Raises ``ValueError`` where the embedding has too few rows for it, where a part is shorter than a
        window, or where this Python's text is not the one that the task was made for.
        """
        if self.dataset == "python" and self.text_hash not in (None, python_text_hash()):
            raise ValueError(
                f"the text of this Python is {python_text_hash()}, and the task was made for {self.text_hash}: "
                "make it with language_modeling() on the Python that trains it"
            )
        corpus = _corpus(self.dataset, self.tokens, self.context, self.evaluated, device)
        if corpus.vocabulary.size > self.vocabulary:
            raise ValueError(
                f"{self.dataset} in {self.tokens} has token numbers up to {corpus.vocabulary.size - 1:,}, but the "
                f"embedding has {self.vocabulary:,} rows: set vocabulary={corpus.vocabulary.size}"
            )
        return corpus

    def batch(self, data: Corpus, step: int, seed: int) -> Tensor:
        """Blocks (N, context + 1); every epoch shows each of them once."""
        return data.train[minibatch(len(data.train), self.batch_size, step, seed, data.train.device)]

    def inputs(self, data: Corpus) -> tuple[Tensor, ...]:
        """The fixed training windows without their last tokens."""
        return torch.split(data.train_sample[:, :-1], self.micro_batch)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean cross-entropy of all next tokens; micro-batches are computed again in the backward pass."""
        parts = torch.split(batch, self.micro_batch)
        if len(parts) == 1:
            return self._nats(model, batch) / batch[:, 1:].numel()
        nats = [checkpoint(self._nats, model, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
        return torch.stack(nats).sum() / batch[:, 1:].numel()

    def _nats(self, model: nn.Module, windows: Tensor) -> Tensor:
        """Summed cross-entropy of all tokens of the windows but the first."""
        if windows.shape[1] - 1 > self.context:
            raise ValueError(
                f"windows of {windows.shape[1] - 1} tokens, but a context of {self.context}: "
                "take the data that this task makes"
            )
        with torch.autocast(windows.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = model(windows[:, :-1]).flatten(0, 1)
        return F.cross_entropy(logits.float(), windows[:, 1:].flatten().long(), reduction="sum")

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW, betas (0.9, 0.95); weight decay acts on every parameter, as in the official code."""
        parameters = list(model.parameters())
        optimizer = AdamW(
            parameters, lr=self.learning_rate, betas=(0.9, 0.95), weight_decay=self.weight_decay, fused=True
        )

        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(parameters, 1.0)

        optimizer.register_step_pre_hook(clip)
        return optimizer

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Linear warm-up, then a cosine."""
        return LambdaLR(optimizer, self._share)

    def _share(self, step: int) -> float:
        """Return the share of the peak learning rate with which update ``step`` is made."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        fall = self.decay_steps or max(1, self.steps - self.warmup)
        through = min(1.0, (step - self.warmup) / fall)
        return self.final_lr_share + (1 - self.final_lr_share) * 0.5 * (1 + math.cos(math.pi * through))

    @torch.no_grad()
    def metrics(self, model: nn.Module, data: Corpus) -> dict[str, float]:
        """Loss in nats a token on the fixed windows of both sides."""
        samples = {"train_loss": data.train_sample, "validation_loss": data.validation_sample}
        return {name: self._evaluated(model, windows) / windows[:, 1:].numel() for name, windows in samples.items()}

    @torch.no_grad()
    def quality(self, model: nn.Module, data: Corpus) -> dict[str, float]:
        """Loss, perplexity and bits a character on the whole test text: every token but the first once.

        Perplexities compare only between equal tokens. Bits a character compare between any, of one text.
        """
        whole = (len(data.test) - 1) // self.context * self.context
        nats = self._evaluated(model, data.test.unfold(0, self.context + 1, self.context))
        if whole < len(data.test) - 1:
            nats += self._evaluated(model, data.test[whole:].unsqueeze(0))
        loss, characters = nats / (len(data.test) - 1), len(data.vocabulary.decode(data.test[1:].tolist()))
        return {
            "test_loss": loss,
            "perplexity": math.exp(loss),
            "bits_per_character": nats / math.log(2) / characters,
        }

    def _evaluated(self, model: nn.Module, windows: Tensor) -> float:
        """Summed cross-entropy of windows, a micro-batch at a time."""
        nats = [self._nats(model, part) for part in torch.split(windows, self.micro_batch)]
        return math.fsum(torch.stack(nats).tolist())

    @torch.no_grad()
    def continue_text(self, model: nn.Module, prompt: str, length: int, seed: int) -> str:
        """Return how the network goes on after a prompt: ``length`` tokens, drawn as it finds them likely.

        Raises ``ValueError`` for a prompt without a single token.
        """
        device = next(model.parameters()).device
        vocabulary = self.data(seed, device).vocabulary
        numbers = vocabulary.encode(prompt).tolist()
        if not numbers:
            raise ValueError(f"the prompt {prompt!r} has no token in {self.tokens}: give at least one")
        draws = generator(seed, "continuation")
        for _ in range(length):
            seen = torch.tensor([numbers[-self.context :]], device=device)
            likely = model(seen)[0, -1, : vocabulary.size].float().softmax(dim=-1).cpu()
            numbers.append(int(torch.multinomial(likely, 1, generator=draws)))
        return vocabulary.decode(numbers[len(numbers) - length :])


def ngram_loss(train: Tensor, test: Tensor, n: int, symbols: int, pseudo_count: float = 0.1) -> float:
    """Return the loss in nats of guessing a token from the ``n - 1`` before it, by counting; what a network must beat.

    ``train`` and ``test`` are token numbers below ``symbols``, whose ``n``-th power is the size of the table.

    >>> text = torch.tensor([0, 1] * 50)
    >>> [round(ngram_loss(text, text, n, symbols=2), 2) for n in (1, 2)]
    [0.69, 0.0]
    """
    place = symbols ** torch.arange(n - 1, -1, -1)
    seen, asked = ((text.cpu().long().unfold(0, n, 1) * place).sum(dim=1) for text in (train, test))
    counts = torch.bincount(seen, minlength=symbols**n).double().view(-1, symbols) + pseudo_count
    shares = (counts / counts.sum(dim=1, keepdim=True)).flatten()
    return float(-shares[asked].log().mean())


@lru_cache(maxsize=2)
def _corpus(dataset: str, tokens: str, context: int, evaluated: int, device: torch.device) -> Corpus:
    texts = _DATASETS[dataset]()
    vocabulary = _TOKENS[tokens](texts.train)
    train, validation, test = (vocabulary.encode(text) for text in (texts.train, texts.validation, texts.test))
    for part, numbers in {"training": train, "validation": validation, "test": test}.items():
        if len(numbers) <= context:
            raise ValueError(
                f"the {part} text of {dataset} has {len(numbers)} tokens, too few for a window of {context + 1}: "
                f"choose a context below {len(numbers)}"
            )
    blocks = train[: len(train) // (context + 1) * (context + 1)].view(-1, context + 1)
    windows = validation.unfold(0, context + 1, context)
    return Corpus(
        train=blocks.to(device),
        train_sample=_spread(blocks, evaluated).to(device),
        validation_sample=_spread(windows, evaluated).to(device),
        test=test.to(device),
        vocabulary=vocabulary,
        note=texts.note,
    )


def _pieces() -> Vocabulary:
    with reading("gpt-neox-20b") as files:
        return Pieces.read(files["tokenizer.json"])


_TOKENS: dict[str, Callable[[str], Vocabulary]] = {
    "characters": lambda text: Characters(),
    "words": Words.of,
    "gpt-neox": lambda text: _pieces(),
}
"""How a text is cut into tokens; words are those of the training text."""


def _spread(windows: Tensor, count: int) -> Tensor:
    """Return as many windows, at equal distances over all, or all if there are fewer."""
    count = min(count, len(windows))
    return windows[torch.arange(count) * len(windows) // count]


_PAPER = LanguageModeling(
    dataset="wikitext-103", tokens="gpt-neox", vocabulary=50_277, layers=12, width=768, heads=12, hidden=768,
    context=2048, learning_rate=6e-4, weight_decay=0.1, warmup=200, final_lr_share=0.1, batch_size=256, micro_batch=4,
    precision="bfloat16", steps=2_220, every=222, evaluated=1_000,
)  # fmt: skip
_LAPTOP = replace(
    _PAPER, dataset="python", tokens="characters", vocabulary=37, layers=3, width=64, heads=2, hidden=64, context=32,
    learning_rate=5e-3, warmup=20, batch_size=32, micro_batch=64, precision="float32", steps=680, every=40,
    evaluated=64,
)  # fmt: skip
_GPU = replace(
    _PAPER, dataset="wikitext-2", tokens="words", vocabulary=33_278, layers=6, width=256, heads=8, hidden=256,
    context=256, learning_rate=1e-3, batch_size=64, micro_batch=32, steps=1_270, every=127, evaluated=256,
)  # fmt: skip
_TIERS = {
    "smoke": replace(
        _LAPTOP, layers=2, width=16, heads=2, hidden=16, context=16, batch_size=8, steps=40, every=20, evaluated=16
    ),
    "laptop": _LAPTOP,
    "gpu": _GPU,
    "paper": _PAPER,
}


def language_modeling(tier: str = "laptop", **changes: Any) -> LanguageModeling:
    """Return the language-modelling settings of a tier, with any field changed by name.

    >>> language_modeling("paper", weight_decay=0.0).steps
    2220
    """
    task = replace(at_tier(_TIERS, tier), **changes)
    unnamed = task.dataset == "python" and task.text_hash is None
    return replace(task, text_hash=python_text_hash()) if unnamed else task
