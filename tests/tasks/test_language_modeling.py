"""The language task against PyTorch's own transformer layers, losses by hand and the paper's counts."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.spectra import feeds
from specdyn.tasks import LanguageModeling, Transformer, build, language_modeling
from specdyn.tasks.datasets import Texts
from specdyn.tasks.datasets.fetch import present
from specdyn.tasks.datasets.python_text import python_text, python_text_hash
from specdyn.tasks.language_modeling import _DATASETS, _corpus, ngram_loss

CPU = torch.device("cpu")
SHORT = "the cat sat on the mat and the dog sat on the cat "


@pytest.fixture(autouse=True)
def _own_corpora() -> Iterator[None]:
    """Let no test see a text that another one made up."""
    _corpus.cache_clear()
    yield
    _corpus.cache_clear()


@pytest.fixture
def short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_DATASETS, "wikitext-2", lambda: Texts(SHORT * 4, SHORT * 2, SHORT, "made up"))


class Reference(nn.Module):
    """The network as one would write it with ``nn.TransformerEncoderLayer``, with the weights of ours."""

    def __init__(self, ours: Transformer, heads: int) -> None:
        super().__init__()
        self.ours = ours
        self.stack = nn.ModuleList(self._layer(layer, heads) for layer in ours.layers)

    def _layer(self, layer: Any, heads: int) -> nn.Module:
        hidden, width = layer.linear1.weight.shape
        twin = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True, norm_first=True)
        twin.self_attn, twin.linear1, twin.linear2 = layer.attention, layer.linear1, layer.linear2
        twin.norm1, twin.norm2 = layer.norm1, layer.norm2
        return twin

    def forward(self, tokens: Tensor) -> Tensor:
        length, width = tokens.shape[1], self.ours.embedding.embedding_dim
        mask = nn.Transformer.generate_square_subsequent_mask(length).double()
        x = F.one_hot(tokens.long(), self.ours.embedding.num_embeddings).double() @ self.ours.embedding.weight
        x = x * width**0.5 + self.ours.positions[:length]
        for layer in self.stack:
            x = layer(x, src_mask=mask)
        return self.ours.decoder(x)


class Frequencies(nn.Module):
    """Says at every place the same: how often each token occurs."""

    def __init__(self, shares: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(shares.log())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


class Counting(nn.Module):
    """After each token of the alphabet, certain of the one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        return 100.0 * F.one_hot((tokens.long() + 1) % 37, 37).float()


def small(**changes: Any) -> LanguageModeling:
    return language_modeling("smoke", **changes)


def test_same_function_and_gradient_as_torch_transformer_layers() -> None:
    torch.manual_seed(0)
    model = Transformer(11, 9, layers=3, width=12, heads=3, hidden=20).double()
    tokens = torch.randint(11, (4, 7), dtype=torch.int32)
    ours, theirs = model(tokens), Reference(model, heads=3)(tokens)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)

    parameters, upstream = list(model.parameters()), torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, parameters, upstream)
    expected = torch.autograd.grad(theirs, parameters, upstream)
    for mine, right in zip(gradients, expected, strict=True):
        assert torch.allclose(mine, right, rtol=0, atol=1e-11)
        assert right.abs().max() > 0


def test_nothing_is_read_from_what_comes_later() -> None:
    model = build(small(), 0)
    tokens = torch.randint(37, (1, 16))
    changed = tokens.clone()
    changed[0, 9] = (tokens[0, 9] + 1) % 37
    differs = (model(tokens) != model(changed)).any(dim=-1)[0]
    assert not differs[:9].any()
    assert differs[9:].all()


def test_paper_tier_has_the_papers_network() -> None:
    with torch.device("meta"):
        model = language_modeling("paper").model()
    width, vocabulary, layers = 768, 50_277, 12
    layer = 6 * width**2 + 6 * width + 4 * width  # attention and MLP, their biases, two normalisations
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == 2 * vocabulary * width + vocabulary + 12 * layer
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(119.8e6, abs=0.05e6)
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    assert len(weights) == 50
    assert [tuple(weight.shape) for weight in weights[:5]] == [
        (vocabulary, width), (3 * width, width), (width, width), (width, width), (width, width),
    ]  # fmt: skip
    assert [name for name, p in model.named_parameters() if p.ndim > 1][-1] == "decoder.weight"
    assert len(model.layers) == layers


def test_the_data_flow_shows_the_papers_61_pairs() -> None:
    pairs = feeds(Transformer(30, 8, layers=12, width=24, heads=12, hidden=24))
    direct = [(pair.previous, pair.next) for pair in pairs if pair.arrow != "+>"]
    layer = "layers.{}.".format
    expected = [
        ("embedding.weight", layer(0) + "attention.in_proj_weight"),
        (layer(11) + "linear2.weight", "decoder.weight"),
    ]
    for i in range(12):
        attention = layer(i) + "attention."
        expected += [
            (attention + "in_proj_weight[q*]", attention + "in_proj_weight[k*]"),
            (attention + "in_proj_weight[v]", attention + "out_proj.weight"),
            (attention + "out_proj.weight", layer(i) + "linear1.weight"),
            (layer(i) + "linear1.weight", layer(i) + "linear2.weight"),
        ]
    expected += [(layer(i) + "linear2.weight", layer(i + 1) + "attention.in_proj_weight") for i in range(11)]
    assert len(direct) == 61
    assert sorted(direct) == sorted(expected)


def test_paper_tier_has_the_papers_optimizer() -> None:
    (group,) = language_modeling("paper").optimizer(build(small(), 0)).param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (6e-4, (0.9, 0.95), 1e-8, 0.1)
    assert len(group["params"]) == len(list(build(small(), 0).parameters()))


def test_the_learning_rate_rises_and_falls_without_a_jump() -> None:
    paper = shares(language_modeling("paper"))
    assert paper[0] == pytest.approx(1 / 200)
    assert paper[199:201] == pytest.approx([1.0, 1.0])  # the official code says 0.1 at step 200
    assert max(abs(after - before) for before, after in pairwise(paper)) <= 1 / 200 + 1e-9
    assert paper[200 + 1_010] == pytest.approx(0.55)  # half way from 1 to 0.1
    assert paper[-1] == pytest.approx(0.1, abs=1e-5)
    assert shares(language_modeling("paper", decay_steps=6_660))[-1] == pytest.approx(0.81, abs=0.005)
    assert shares(language_modeling("paper", decay_steps=1_000))[1_200:] == pytest.approx([0.1] * 1_020)


def shares(task: LanguageModeling) -> list[float]:
    """The learning rate of every update, as a share of the peak."""
    optimizer = task.optimizer(nn.Linear(1, 1))
    schedule, found = task.schedule(optimizer), []
    for _ in range(task.steps):
        found.append(schedule.get_last_lr()[0] / task.learning_rate)
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("given", "kept"), [(8.0, 1.0), (0.5, 0.5)])
def test_gradients_are_clipped_to_norm_1(given: float, kept: float) -> None:
    model = nn.Linear(4, 4)
    optimizer = small().optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, given / 20**0.5)
    optimizer.step()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(kept, rel=1e-4)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_change_memory_and_nothing_else(micro_batch: int) -> None:
    whole = small(micro_batch=8)
    model = build(whole, 0).double()
    batch = torch.randint(37, (8, 17), dtype=torch.int32)
    parts = small(micro_batch=micro_batch)
    losses = [task.loss(model, batch) for task in (whole, parts)]
    expected = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten().long())
    assert all(torch.allclose(loss.double(), expected, rtol=1e-6) for loss in losses)
    gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-9)
    assert held(parts, model, batch) < held(whole, model, batch) / 10


def held(task: LanguageModeling, model: nn.Module, batch: Tensor) -> int:
    """Numbers kept from the forward for the backward pass."""
    sizes: list[int] = []

    def keep(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        task.loss(model, batch)
    return sum(sizes)


def test_bfloat16_is_for_products_alone() -> None:
    model, batch = build(small(), 0), torch.randint(37, (8, 17), dtype=torch.int32)
    exact, rounded = (small(precision=precision).loss(model, batch) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert exact != rounded
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    rounded.backward()  # type: ignore[no-untyped-call]
    assert all(p.dtype == torch.float32 and p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


def test_blocks_are_the_text_and_an_epoch_shows_each_once() -> None:
    task = small(batch_size=100)
    data = task.data(0, CPU)
    assert data.train.shape[1] == task.context + 1
    assert data.vocabulary.decode(data.train.flatten().tolist()) == python_text().train[: data.train.numel()]
    assert len(python_text().train) - data.train.numel() <= task.context
    shown = torch.cat([task.batch(data, step, seed=3) for step in range(-(-len(data.train) // 100))])
    assert Counter(map(tuple, shown.tolist())) == Counter(map(tuple, data.train.tolist()))


def test_the_text_does_not_depend_on_the_seed() -> None:
    one, other = (small().data(seed, CPU) for seed in (0, 1))
    assert torch.equal(one.train, other.train)
    assert not torch.equal(small().batch(one, 0, seed=0), small().batch(other, 0, seed=1))


def test_losses_are_those_of_windows_spread_over_the_text() -> None:
    task = small(evaluated=5, micro_batch=2)
    data, model = task.data(0, CPU), build(small(), 0)
    text = data.vocabulary.encode(python_text().validation).long()
    windows = (len(text) - 1) // 16
    chosen = [text[16 * (k * windows // 5) :][:17] for k in range(5)]
    with torch.no_grad():
        alone = [float(F.cross_entropy(model(window[None, :-1])[0], window[1:])) for window in chosen]
    assert task.metrics(model, data)["validation_loss"] == pytest.approx(sum(alone) / 5, rel=1e-5)
    assert set(task.metrics(model, data)) == {"train_loss", "validation_loss"}


@pytest.mark.parametrize("context", [7, 16, 48])
def test_quality_weighs_every_token_of_the_test_text_once(context: int) -> None:
    task = small(context=context, micro_batch=50)
    data = task.data(0, CPU)
    text = python_text().test
    counts = torch.bincount(data.test.long(), minlength=37) + 1.0
    shares = counts / counts.sum()
    exact = -sum(math.log(float(shares[number])) for number in data.test[1:].tolist()) / (len(text) - 1)
    measured = task.quality(Frequencies(shares), data)
    assert measured["test_loss"] == pytest.approx(exact, rel=1e-6)
    assert measured["perplexity"] == pytest.approx(math.exp(exact), rel=1e-5)
    assert measured["bits_per_character"] == pytest.approx(exact / math.log(2), rel=1e-6)


@pytest.mark.usefixtures("short_text")
def test_bits_a_character_count_the_characters_of_words() -> None:
    task = small(dataset="wikitext-2", tokens="words", vocabulary=7, context=4)
    measured = task.quality(Frequencies(torch.full((7,), 1 / 7)), task.data(0, CPU))
    tokens = SHORT.split()[1:]  # the first is given
    assert measured["perplexity"] == pytest.approx(7.0)
    assert measured["bits_per_character"] == pytest.approx(len(tokens) * math.log2(7) / len(" ".join(tokens)))


def test_counting_is_what_it_says() -> None:
    train, test = torch.tensor([0, 1, 0, 1, 0, 0]), torch.tensor([0, 1, 1])
    # After 0 came 1 twice and 0 once, after 1 came 0 twice; a tenth is added to every count.
    expected = -(math.log(2.1 / 3.2) + math.log(0.1 / 2.2)) / 2
    assert ngram_loss(train, test, n=2, symbols=2) == pytest.approx(expected)
    unigram = -(math.log(4.1 / 6.2) + 2 * math.log(2.1 / 6.2)) / 3
    assert ngram_loss(train, test, n=1, symbols=2) == pytest.approx(unigram)


def test_text_goes_on_as_the_network_says_past_the_length_of_a_window() -> None:
    task = small()
    expected = "".join(" abcdefghijklmnopqrstuvwxyz0123456789"[(25 + k) % 37] for k in range(40))
    assert task.continue_text(Counting(), "...A long prompt, longer than 16 characters: X", 40, seed=0) == expected
    assert task.continue_text(Counting(), "a", 0, seed=0) == ""


def test_text_goes_on_at_random_as_the_seed_says() -> None:
    task, model = small(), Frequencies(torch.tensor([0.0, 0.75, 0.25] + [0.0] * 34))
    one, again, other = (task.continue_text(model, "b", 400, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert one.count("a") / 400 == pytest.approx(0.75, abs=0.08)
    assert set(one) == {"a", "b"}


def test_a_prompt_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="the prompt '' has no token in characters"):
        small().continue_text(Counting(), "", 5, seed=0)


def test_a_vocabulary_larger_than_the_embedding_is_refused_with_numbers() -> None:
    with pytest.raises(ValueError, match=r"numbers up to 36, but the embedding has 36 rows: set vocabulary=37"):
        small(vocabulary=36).data(0, CPU)


@pytest.mark.usefixtures("short_text")
def test_pieces_of_words_come_from_a_file_and_size_the_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer(WordLevel({"the": 0, "cat": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    (tmp_path / "gpt-neox-20b").mkdir()
    tokenizer.save(str(tmp_path / "gpt-neox-20b" / "tokenizer.json"))
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path))
    task = small(dataset="wikitext-2", tokens="gpt-neox", vocabulary=3, context=4)
    with pytest.raises(ValueError, match="numbers up to 3, but the embedding has 3 rows: set vocabulary=4"):
        task.data(0, CPU)
    assert int(small(dataset="wikitext-2", tokens="gpt-neox", vocabulary=4, context=4).data(0, CPU).train.max()) == 2


def test_an_absent_tokenizer_is_named_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_DATASETS, "wikitext-103", lambda: Texts(SHORT, SHORT, SHORT))
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"gpt-neox-20b/tokenizer\.json"):
        language_modeling("paper").data(0, CPU)


def test_another_pythons_text_is_refused() -> None:
    foreign = replace(small(), text_hash="0123456789ab")  # as a task from another machine has it
    with pytest.raises(ValueError, match=r"the task was made for 0123456789ab: make it with language_modeling\(\)"):
        foreign.data(0, CPU)
    with pytest.raises(ValueError, match="the task was made for 0123456789ab"):
        small(text_hash="0123456789ab").data(0, CPU)
    assert small().text_hash == python_text_hash()
    assert language_modeling("paper").text_hash is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "wikitext"}, "unknown dataset 'wikitext': choose one of python, tiny-shakespeare"),
        ({"tokens": "letters"}, "unknown tokens 'letters': choose one of characters, words, gpt-neox"),
        ({"precision": "float16"}, "unknown precision 'float16': choose one of float32, bfloat16"),
        ({"every": 0}, "every=0: it has to be at least 1"),
        ({"micro_batch": 0}, "micro_batch=0: it has to be at least 1"),
        ({"evaluated": 0}, "evaluated=0: it has to be at least 1"),
        ({"context": 0}, "context=0: it has to be at least 1"),
        ({"batch_size": -1}, "batch_size=-1: it has to be at least 1"),
    ],
)
def test_what_does_not_exist_is_refused_at_once_with_the_choices(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_part_without_a_window_is_refused_by_name(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [SHORT[:30] if name == part else SHORT * 4 for name in ("training", "validation", "test")]
    monkeypatch.setitem(_DATASETS, "tiny-shakespeare", lambda: Texts(*texts, "made up"))
    message = (
        f"the {part} text of tiny-shakespeare has 30 tokens, too few for a window of 31: choose a context below 30"
    )
    with pytest.raises(ValueError, match=message):
        small(dataset="tiny-shakespeare", context=30).data(0, CPU)
    assert small(dataset="tiny-shakespeare", context=29).data(0, CPU).vocabulary.size == 37


def test_windows_longer_than_the_context_are_refused_with_both_numbers() -> None:
    longer = small(context=20)
    with pytest.raises(
        ValueError, match="windows of 20 tokens, but a context of 16: take the data that this task makes"
    ):
        small().metrics(build(small(), 0), longer.data(0, CPU))


def test_an_unknown_tier_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown tier 'huge': choose one of smoke, laptop, gpu, paper"):
        language_modeling("huge")


def test_snapshots_are_the_papers_and_end_where_the_run_ends() -> None:
    assert language_modeling("paper").snapshots[:7] == (0, 44, 88, 132, 176, 222, 444)
    assert language_modeling("paper").snapshots[-1] == 2_220
    assert len(language_modeling("laptop").snapshots) == 22
    assert language_modeling("laptop", steps=333).snapshots[-1] == 333


def test_the_papers_way_of_making_an_update_works_on_a_small_text() -> None:
    sizes = {"layers": 2, "width": 24, "hidden": 24, "context": 16, "batch_size": 12, "evaluated": 8, "warmup": 1}
    task = language_modeling("paper", dataset="python", tokens="characters", vocabulary=37, **sizes)
    data, model = task.data(0, CPU), build(task, 0)
    before, optimizer = task.metrics(model, data), task.optimizer(model)
    for step in range(3):
        optimizer.zero_grad()
        task.loss(model, task.batch(data, step, 0)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert (task.precision, task.micro_batch) == ("bfloat16", 4)
    assert task.metrics(model, data)["train_loss"] < before["train_loss"]


def test_a_smoke_run_learns_more_than_the_frequencies_of_characters() -> None:
    task = small(steps=150)
    data, model = task.data(0, CPU), build(small(), 0)
    optimizer = task.optimizer(model)
    schedule = task.schedule(optimizer)
    before = task.metrics(model, data)["validation_loss"]
    for step in range(task.steps):
        loss = task.loss(model, task.batch(data, step, 0))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    assert before == pytest.approx(math.log(37), rel=0.1)
    assert task.quality(model, data)["test_loss"] < ngram_loss(data.train.flatten(), data.test, 1, 37)


@pytest.mark.skipif("SPECDYN_DATA" not in os.environ, reason="needs WikiText-2: set SPECDYN_DATA to a folder with it")
@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-2-shuffled"])
def test_wikitext2_has_the_published_counts(name: str) -> None:
    if not present(name):
        pytest.skip(f"SPECDYN_DATA and the cache have no {name}")
    task = language_modeling("gpu", dataset=name, context=1, evaluated=8)
    data = task.data(0, CPU)
    assert data.vocabulary.size == task.vocabulary == 33_278
    assert data.train.numel() == 2_088_628
    assert len(data.test) == 245_569
    assert "<eos>" not in data.vocabulary.decode(data.test.tolist())
