"""Modular addition: (a, b, =) -> a + b mod p, learned by a one-layer transformer (Power et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks.task import at_tier, generator


class OneLayerTransformer(nn.Module):
    """The paper's network: one pre-LN layer, causal attention, sinusoidal positions, untied decoder.

    It computes what ``nn.TransformerEncoderLayer`` computes at the last position, but for less. Only that
    position is read, and a key or value depends on its (token, position) alone, so it is computed once for
    each of the 2p + 1 rows that can occur instead of once for every example.
    """

    positions: Tensor

    def __init__(self, modulus: int, width: int, heads: int, hidden: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(modulus + 1, width)  # the last token is "="
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.decoder = nn.Linear(width, modulus + 1)
        self.norm1 = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.norm2 = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.register_buffer("positions", sinusoidal_positions(3, width), persistent=False)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits (N, p + 1) at "=" for pairs (N, 2) of numbers below p."""
        rows = self._rows()
        x = rows[-1] + self.attention.out_proj(self._attended(rows, pairs))  # (N, width)
        x = x + self.linear2(F.relu(self.linear1(self.norm2(x))))
        logits: Tensor = self.decoder(x)
        return logits

    def _rows(self) -> Tensor:
        """Every (token, position) that occurs: p first numbers, p second numbers, one "="."""
        tokens = self.embedding.weight * math.sqrt(self.embedding.embedding_dim)
        first, second, equals = self.positions
        return torch.cat([tokens[:-1] + first, tokens[:-1] + second, tokens[-1:] + equals])

    def _attended(self, rows: Tensor, pairs: Tensor) -> Tensor:
        """Concatenated head outputs (N, width) of the query at "=" over the three positions."""
        attention, normed = self.attention, self.norm1(rows)
        w_q, w_kv = attention.in_proj_weight.tensor_split([attention.embed_dim])
        b_q, b_kv = attention.in_proj_bias.tensor_split([attention.embed_dim])
        heads, per_head = attention.num_heads, attention.head_dim
        query = F.linear(normed[-1], w_q, b_q).view(heads, per_head)
        keys, values = F.linear(normed, w_kv, b_kv).chunk(2, dim=-1)  # (2p + 1, width)
        scores = (keys.view(-1, heads, per_head) * query).sum(-1) / math.sqrt(per_head)  # (2p + 1, heads)

        p = self.embedding.num_embeddings - 1
        at = torch.stack([pairs[:, 0], pairs[:, 1] + p, torch.full_like(pairs[:, 0], 2 * p)], dim=1)
        weights = F.embedding(at, scores).softmax(dim=1)  # (N, 3, heads)
        read = F.embedding(at, values).view(*at.shape, heads, per_head)
        return (weights.unsqueeze(-1) * read).sum(dim=1).flatten(1)


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Return the fixed position vectors (length, width) of Vaswani et al. 2017, section 3.5.

    >>> sinusoidal_positions(1, 4)
    tensor([[0., 1., 0., 1.]])
    """
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(length).unsqueeze(1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


@dataclass(frozen=True)
class Pairs:
    """Pairs (N, 2) split into training and validation, with their sums (N,)."""

    train: Tensor
    train_sums: Tensor
    validation: Tensor
    validation_sums: Tensor
    strict: Tensor
    """Which validation pairs (a, b) were not seen as (b, a) either: addition is symmetric."""


def split_pairs(modulus: int, train_fraction: float, seed: int) -> Pairs:
    """Split all ordered pairs below the modulus at random into training and validation.

    Raises ``ValueError`` where a side would be empty or no validation pair is strict.

    >>> data = split_pairs(5, 0.4, seed=0)
    >>> len(data.train), len(data.validation)
    (10, 15)
    """
    count = int(train_fraction * modulus**2)
    order = torch.randperm(modulus**2, generator=generator(seed, "split"))
    train, validation = order[:count], order[count:]
    mirrored = validation % modulus * modulus + validation // modulus
    strict = ~torch.isin(mirrored, train)
    if count == 0 or not strict.any():
        raise ValueError(
            f"train_fraction={train_fraction} of {modulus**2} pairs leaves {count} to train on and "
            f"{int(strict.sum())} strict ones to validate on: choose a fraction further from 0 and 1"
        )

    def decoded(index: Tensor) -> tuple[Tensor, Tensor]:
        pairs = torch.stack([index // modulus, index % modulus], dim=1)
        return pairs, pairs.sum(dim=1) % modulus

    return Pairs(*decoded(train), *decoded(validation), strict)


@dataclass(frozen=True)
class ModularAddition:
    """Settings of one modular-addition run (paper section 3; task T1). Full batch, AdamW."""

    modulus: int
    width: int
    heads: int
    hidden: int
    layer_norm: bool
    train_fraction: float
    learning_rate: float
    weight_decay: float
    warmup: int
    init_scale: float
    steps: int
    every: int
    name: str = "modular-addition"

    @property
    def snapshots(self) -> range:
        """Every so many steps, from initialisation to the last."""
        return range(0, self.steps + 1, self.every)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pair the paper shows: the embedding feeds the attention's fused input projection."""
        return (("embedding.weight", "attention.in_proj_weight"),)

    def model(self) -> OneLayerTransformer:
        """The network, its initial parameters multiplied by ``init_scale``."""
        model = OneLayerTransformer(self.modulus, self.width, self.heads, self.hidden, layer_norm=self.layer_norm)
        norms = {id(p) for m in (model.norm1, model.norm2) for p in m.parameters()}
        with torch.no_grad():
            for parameter in model.parameters():
                if id(parameter) not in norms:
                    parameter.mul_(self.init_scale)
        return model

    def data(self, seed: int, device: torch.device) -> Pairs:
        """All pairs, split by the seed."""
        pairs = split_pairs(self.modulus, self.train_fraction, seed)
        return Pairs(**{field: tensor.to(device) for field, tensor in vars(pairs).items()})

    def batch(self, data: Pairs, step: int, seed: int) -> tuple[Tensor, Tensor]:
        """The whole training set: every step is a full-batch step."""
        return data.train, data.train_sums

    def inputs(self, data: Pairs) -> list[Tensor]:
        """All training pairs at once."""
        return [data.train]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy at the last position."""
        pairs, sums = batch
        return F.cross_entropy(model(pairs), sums)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW, betas (0.9, 0.98); weight decay acts on every parameter, as in the official code."""
        return AdamW(
            model.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay, fused=True
        )

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """Linear warm-up, then constant."""
        return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, self.warmup)))

    @torch.no_grad()
    def metrics(self, model: nn.Module, data: Pairs) -> dict[str, float]:
        """Losses and error rates; the strict error counts only pairs unseen in either order."""
        train, held_out = model(data.train), model(data.validation)
        wrong = held_out.argmax(dim=-1) != data.validation_sums
        measured = {
            "train_loss": F.cross_entropy(train, data.train_sums),
            "validation_loss": F.cross_entropy(held_out, data.validation_sums),
            "train_error": (train.argmax(dim=-1) != data.train_sums).float().mean(),
            "validation_error": wrong.float().mean(),
            "strict_error": wrong[data.strict].float().mean(),
        }
        return {name: float(value) for name, value in measured.items()}


_PAPER = ModularAddition(
    modulus=113, width=128, heads=4, hidden=512, layer_norm=False, train_fraction=0.3,
    learning_rate=1e-3, weight_decay=1.0, warmup=0, init_scale=1.0, steps=40_000, every=100,
)  # fmt: skip
_LAPTOP = replace(
    _PAPER, modulus=53, width=64, hidden=256, train_fraction=0.4, learning_rate=1e-2, init_scale=0.5,
    steps=3_000, every=30,
)  # fmt: skip
_TIERS = {
    "smoke": replace(_LAPTOP, modulus=11, width=16, hidden=32, steps=60, every=5),
    "laptop": _LAPTOP,
    "gpu": replace(_PAPER, steps=20_000),
    "paper": _PAPER,
}


def modular_addition(tier: str = "laptop", **changes: Any) -> ModularAddition:
    """Return the grokking settings of a tier, with any field changed by name.

    >>> modular_addition("paper", weight_decay=0.0).steps
    40000
    """
    return replace(at_tier(_TIERS, tier), **changes)


def grokking_settings(tier: str = "laptop") -> dict[str, ModularAddition]:
    """Return the four rows of the paper's Figure 2, by name, at a tier.

    >>> {name: task.weight_decay for name, task in grokking_settings("paper").items()}
    {'no decay': 0.0, 'decay': 1.0, 'slingshot': 0.0, 'more data': 0.0}
    """
    base = modular_addition(tier)
    free = replace(base, weight_decay=0.0)
    rows = {
        "no decay": free,
        "decay": base,
        "slingshot": replace(free, train_fraction=0.7, layer_norm=True, warmup=10),
        "more data": replace(free, train_fraction=0.9),
    }
    return {name: replace(row, **_CHANGES.get(tier, {}).get(name, {})) for name, row in rows.items()}


_CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "laptop": {  # what happens without decay happens early, or not in any time a laptop has
        "no decay": {"steps": 2_400, "every": 24},
        "slingshot": {"modulus": 47, "learning_rate": 2e-2, "steps": 2_000, "every": 20},
        "more data": {"steps": 2_000, "every": 20},
    },
    "gpu": {"slingshot": {"modulus": 97, "steps": 50_000}},
    "paper": {"slingshot": {"modulus": 97, "steps": 100_000}},
}
