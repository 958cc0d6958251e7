"""Masks: exact to one weight, the same every time, and zero stays zero whatever the optimizer does."""

import copy
import itertools
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import specdyn as sd
from specdyn.interventions import Mask, Masked, magnitude_mask, random_mask, shuffled_mask
from specdyn.tasks import image_classification
from specdyn.training import DivergedError

IMAGES = image_classification("smoke")


class Zoo(nn.Module):
    """A matrix of every kind whose stored weight is not what is read: transposed, flattened, grouped, stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(4, 6, 3, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 2)
        self.grouped = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.lstm = nn.LSTM(5, 3, bidirectional=True)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 1)


@pytest.fixture
def zoo() -> Zoo:
    torch.manual_seed(0)
    return Zoo()


def stack(*weights: torch.Tensor) -> nn.Sequential:
    """Linear layers with these weights, without biases."""
    model = nn.Sequential(*(nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=w.dtype) for w in weights))
    for layer, weight in zip(model, weights, strict=True):
        layer.weight.data.copy_(weight)
    return model


def flat(mask: Mask) -> np.ndarray:
    return np.concatenate([keep.numpy().ravel() for keep in mask.keep.values()])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    kept=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 99),
    values=st.integers(1, 50),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_the_number_kept_is_exact_and_of_equal_weights_the_first_stay(
    kept: float, seed: int, values: int, dtype: torch.dtype
) -> None:
    shapes = [(5, 7), (1, 3), (4, 1), (6, 6)]
    weights = [torch.randint(-values, values + 1, shape, generator=generator(seed)).to(dtype) for shape in shapes]
    model = stack(*weights)
    for scope, groups in (("global", [weights]), ("layer", [[weight] for weight in weights])):
        expected = []
        for group in groups:
            sizes = np.concatenate([np.abs(weight.double().numpy()).ravel() for weight in group])
            chosen = np.zeros(sizes.size, dtype=bool)
            chosen[np.argsort(-sizes, kind="stable")[: round(kept * sizes.size)]] = True
            expected.append(chosen)
        mask = magnitude_mask(model, kept, scope=scope, spare=(), allow_empty=True)
        np.testing.assert_array_equal(flat(mask), np.concatenate(expected))


def test_torchs_own_pruning_keeps_the_same_weights_where_none_are_equal() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(9, 5), nn.Linear(5, 2))
    for scope in ("global", "layer"):
        pruned = copy.deepcopy(model)
        layers = [(pruned[0], "weight"), (pruned[1], "weight")]
        if scope == "global":
            prune.global_unstructured(layers, prune.L1Unstructured, amount=261 - round(0.3 * 261))
        else:
            for layer, name in layers:
                prune.l1_unstructured(layer, name, amount=layer.weight.numel() - round(0.3 * layer.weight.numel()))
        mask = magnitude_mask(model, 0.3, scope=scope)
        assert list(mask.keep) == ["0.weight", "1.weight"]
        for theirs, ours in zip(pruned, mask.applied(model), strict=True):
            assert torch.equal(theirs.weight, ours.weight)


def test_doubles_that_single_precision_cannot_tell_apart_are_told_apart() -> None:
    weight = torch.tensor([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]], dtype=torch.float64)
    assert magnitude_mask(stack(weight), 0.3, spare=()).keep["0.weight"].tolist() == [[False, True, False]]


@pytest.mark.parametrize("kept", [0.0, -0.1, 1.0001, float("nan")])
def test_a_fraction_that_is_none_is_refused(zoo: Zoo, kept: float) -> None:
    with pytest.raises(ValueError, match=rf"kept fraction {kept} is outside \(0, 1\]"):
        magnitude_mask(zoo, kept)


def test_what_no_mask_can_be_made_of_is_refused(zoo: Zoo) -> None:
    with pytest.raises(ValueError, match='unknown scope \'row\': choose "global" or "layer"'):
        magnitude_mask(zoo, 0.5, scope="row")
    with pytest.raises(ValueError, match=r"cannot spare \['tail'\]: the matrices are \['embedding\.weight'"):
        magnitude_mask(zoo, 0.5, spare=["tail"])
    with pytest.raises(ValueError, match=r"every matrix is spared.*such as spare=\(\)"):
        magnitude_mask(nn.Linear(3, 3), 0.5)
    nn.init.constant_(zoo.up.weight, float("nan"))
    with pytest.raises(ValueError, match=r"weights of up\.weight are not finite"):
        magnitude_mask(zoo, 0.5)
    with pytest.raises(TypeError, match=r"made of tensors of booleans, but there are \{'weight': torch\.float32\}"):
        Mask({"weight": torch.ones(2, 2)})


def test_a_layer_of_which_nothing_is_left_is_named_with_the_cures() -> None:
    model = stack(torch.ones(4, 4), torch.full((3, 3), 0.1), torch.full((2, 3), 0.2))
    with pytest.raises(
        ValueError, match=r"nothing would be left of 1\.weight, 2\.weight at kept=0\.5, .*keep more, .*"
    ):
        magnitude_mask(model, 0.5, spare=())
    mask = magnitude_mask(model, 0.5, spare=(), allow_empty=True)
    assert mask.empty == ["1.weight", "2.weight"]
    assert mask.kept == {"0.weight": 1.0, "1.weight": 0.0, "2.weight": 0.0}
    assert magnitude_mask(model, 0.5, scope="layer", spare=()).empty == []
    with pytest.raises(ValueError, match=r"nothing would be left of 2\.weight"):
        magnitude_mask(model, 0.07, scope="layer", spare=())  # a weight of 16, one of 9, none of 6


def test_every_kind_of_matrix_is_masked_as_it_is_read(zoo: Zoo) -> None:
    before = copy.deepcopy(zoo.state_dict())
    mask = magnitude_mask(zoo, 0.4)
    masked = mask.applied(zoo)
    assert list(mask.keep) == [matrix.name for matrix in sd.matrices(zoo)][:-1]
    for old, new in zip(sd.matrices(zoo), sd.matrices(masked), strict=True):
        keep = mask.keep.get(old.name, torch.ones(old.shape, dtype=torch.bool))
        assert torch.equal(new.view, torch.where(keep, old.view, 0))
    total = sum(matrix.view.numel() for matrix in sd.matrices(zoo)[:-1])
    zeros = sum(int((parameter == 0).sum()) for name, parameter in masked.named_parameters() if name not in BIASES)
    assert zeros == total - round(0.4 * total)
    for name, tensor in zoo.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert torch.equal(masked.state_dict()[name], tensor) or name in mask.keep, name


BIASES = {name for name, _ in Zoo().named_parameters() if "bias" in name}


def test_a_mask_of_another_network_is_refused(zoo: Zoo) -> None:
    wide = Mask({"head.weight": torch.ones(1, 5, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"mask of head\.weight has shape \(1, 5\), but the matrix \(1, 4\)"):
        wide.applied(zoo)
    stored = Mask({"conv.weight": torch.ones(6, 2, 3, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"mask of conv\.weight has shape \(6, 2, 3, 3\), but the matrix \(6, 18\)"):
        Masked(stored).bind(zoo)
    with pytest.raises(ValueError, match=r"no matrix 'hed\.weight'.*nearest names are head\.weight"):
        Masked(Mask({"hed.weight": torch.ones(1, 4, dtype=torch.bool)})).bind(zoo)
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"cannot mask weight: computed by its layer or a stack"):
        magnitude_mask(computed, 0.5, spare=()).applied(computed)


def test_a_smaller_share_of_a_masked_network_lies_within_the_larger_one(zoo: Zoo) -> None:
    first = magnitude_mask(zoo, 0.5)
    masked = first.applied(zoo)
    with torch.no_grad():
        for parameter in masked.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.1)  # it learns
    second = magnitude_mask(masked, 0.3)
    assert all((second.keep[name] <= keep).all() for name, keep in first.keep.items())
    assert flat(second).sum() == round(0.3 * flat(first).size)


def test_the_representation_tells_every_two_masks_apart_and_is_that_of_the_content() -> None:
    keep = torch.rand(4, 6, generator=generator()) < 0.5
    mask, flipped = Mask({"a": keep}), keep.clone()
    flipped[3, 5] ^= True
    moved = keep.flatten().roll(1).view(4, 6)
    others = [Mask({"a": flipped}), Mask({"b": keep}), Mask({"a": keep.view(6, 4)}), Mask({"a": moved})]
    assert len({repr(other) for other in [mask, *others]}) == 5
    twins = [Mask({"a": keep.T.contiguous().T}), pickle.loads(pickle.dumps(mask))]
    assert {repr(twin) for twin in twins} == {repr(mask)}
    assert f"keeps {int(keep.sum())} of 24 weights" in repr(Masked(mask))


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "fused": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_masked_weights_stay_zero_and_the_others_learn_as_if_they_were_not_there(
    optimizer: type[torch.optim.Optimizer], options: dict[str, object]
) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(20, 5), torch.randn(20, 3)
    whole = nn.Linear(5, 3)
    small = nn.Linear(3, 3)
    used = torch.tensor([True, False, True, False, True])
    small.load_state_dict({"weight": whole.weight[:, used], "bias": whole.bias})
    keep = used.expand(3, 5)
    hold = Masked(Mask({"weight": keep})).bind(whole)
    for model, seen in ((whole, inputs), (small, inputs[:, used])):
        own = optimizer(model.parameters(), lr=0.05, **options)
        for step in range(1, 31):
            own.zero_grad()
            nn.functional.mse_loss(model(seen), targets).backward()
            own.step()
            if model is whole:
                assert not torch.equal(model.weight == 0, ~keep)  # they would not stay zero by themselves
                hold(step, 0.05)
                assert torch.equal(model.weight == 0, ~keep)
    torch.testing.assert_close(whole.weight[:, used], small.weight)
    torch.testing.assert_close(whole.bias, small.bias)


def test_a_random_mask_keeps_as_many_anywhere(zoo: Zoo) -> None:
    mask = magnitude_mask(zoo, 0.3, scope="layer")
    before, global_state = copy.deepcopy(dict(mask.keep)), torch.get_rng_state()
    drawn = [random_mask(mask, generator(seed)) for seed in range(300)]
    assert all(one.kept == mask.kept for one in drawn)
    assert repr(random_mask(mask, generator(7))) == repr(drawn[7])
    often = np.mean([flat(one) for one in drawn], axis=0)
    share = np.concatenate([np.full(keep.numel(), mask.kept[name]) for name, keep in mask.keep.items()])
    deviation = (often - share) / np.sqrt(share * (1 - share) / 300)
    assert np.abs(deviation).max() < 5
    assert 0.9 < deviation.std() < 1.1
    assert all(torch.equal(mask.keep[name], keep) for name, keep in before.items())
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize(("within", "margins"), [("rows", [1]), ("columns", [0]), ("both", [0, 1])])
def test_shuffling_keeps_what_it_says_and_nothing_else(within: str, margins: list[int]) -> None:
    chance = torch.rand(40, 1, generator=generator(1)) * torch.rand(1, 70, generator=generator(2))
    mask = Mask({"a": torch.rand(40, 70, generator=generator(3)) < chance, "b": torch.eye(5, 4).bool()})
    shuffled = shuffled_mask(mask, within, generator())
    for name, keep in mask.keep.items():
        for margin in (0, 1):
            same = torch.equal(shuffled.keep[name].sum(margin), keep.sum(margin))
            assert same if margin in margins else name == "b" or not same
    overlap = (shuffled.keep["a"] & mask.keep["a"]).sum() / mask.keep["a"].sum()
    assert overlap < 0.6
    assert repr(shuffled_mask(mask, within, generator())) == repr(shuffled)
    assert repr(shuffled_mask(mask, within, generator(1))) != repr(shuffled)


def with_margins(rows: tuple[int, ...], columns: tuple[int, ...]) -> list[tuple[bool, ...]]:
    """Every matrix of booleans with these sums."""
    options = [
        [row for row in itertools.product([False, True], repeat=len(columns)) if sum(row) == count] for count in rows
    ]
    tables = (chosen for chosen in itertools.product(*options) if tuple(map(sum, zip(*chosen, strict=True))) == columns)
    return [sum(table, ()) for table in tables]


def test_with_both_margins_every_mask_there_is_comes_up_as_often() -> None:
    states = with_margins((2, 1, 1), (1, 2, 1))
    start = Mask({"w": torch.tensor(states[0]).view(3, 3)})
    draws, source = 600, generator()
    found = Counter(tuple(flat(shuffled_mask(start, "both", source)).tolist()) for _ in range(draws))
    assert set(found) == set(states)
    expected = draws / len(states)
    chi_squared = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi_squared < 3 * (len(states) - 1)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("value", [True, False])
def test_where_there_is_nothing_to_shuffle_a_mask_stays(shape: tuple[int, int], value: bool) -> None:
    mask = Mask({"w": torch.full(shape, value)})
    for within in ("rows", "columns", "both"):
        assert repr(shuffled_mask(mask, within, generator())) == repr(mask)
    assert repr(random_mask(mask, generator())) == repr(mask)
    with pytest.raises(ValueError, match="cannot shuffle within 'blocks': choose one of rows, columns, both"):
        shuffled_mask(mask, "blocks", generator())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.1, "decoupled": True}])
def test_a_run_under_a_mask_learns_with_the_same_weights_at_zero_throughout(changes: dict[str, object]) -> None:
    task = image_classification("smoke", **changes)
    trunk = sd.train(task, 0, keep=[4], device="cpu", progress=False)
    mask = magnitude_mask(trunk.model(), 0.3)
    start = trunk.checkpoint(4)
    ticket = sd.train(task, 0, start=start, constraint=Masked(mask), keep=[4, 5, 6], device="cpu", progress=False)
    names = {matrix.name for matrix in sd.matrices(trunk.model())}
    assert names - mask.keep.keys() == {"fc.weight"}
    for step in ticket.kept:
        for matrix in sd.matrices(ticket.model(step)):
            keep = mask.keep.get(matrix.name, torch.ones(matrix.shape, dtype=torch.bool))
            assert torch.equal(matrix.view == 0, ~keep), (step, matrix.name)
    loss = ticket.recording.metrics["train_loss"]
    assert loss[-1] < loss[0]
    other = Masked(random_mask(mask, generator()))
    assert sd.train(task, 0, start=start, constraint=other, device="cpu", progress=False).folder != ticket.folder


@pytest.mark.usefixtures("runs")
def test_a_masked_run_that_diverges_says_so() -> None:
    wild = image_classification("smoke", learning_rate=float("inf"))
    mask = Mask({"fc.weight": torch.eye(10, 16).bool()})
    with pytest.raises(DivergedError, match="not finite at step"):
        sd.train(wild, 0, constraint=Masked(mask), device="cpu", progress=False)
