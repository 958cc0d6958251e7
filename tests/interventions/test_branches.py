"""Branches: they set out with the whole state of the trunk, change nothing of it, and repeat exactly."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.interventions import LowRank, Masked, magnitude_mask, reestimate, with_weights
from specdyn.tasks import ImageClassification, image_classification
from specdyn.training import Checkpoint, Run

TASK = image_classification("smoke", milestones=(6, 18))
SPLIT = 10
"""Between the two drops of the learning rate, and within an epoch of 16 updates."""


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def trunk() -> Run:
    return train(keep=[SPLIT])


def train(seed: int = 0, **options: object) -> Run:
    return sd.train(TASK, seed, device="cpu", progress=False, **options)


def leaves(tree: object, name: str = "") -> dict[str, object]:
    """Everything in a checkpoint, by its place."""
    if isinstance(tree, Checkpoint):
        tree = {part: getattr(tree, part) for part in ("seed", "step", "model", "optimizer", "schedule")}
    if isinstance(tree, dict):
        return {place: leaf for key, value in tree.items() for place, leaf in leaves(value, f"{name}/{key}").items()}
    return {name: tree.clone() if isinstance(tree, torch.Tensor) else tree}


def differing(one: Checkpoint, two: Checkpoint) -> list[str]:
    ours, theirs = leaves(one), leaves(two)
    assert ours.keys() == theirs.keys()
    return [
        place
        for place, leaf in ours.items()
        if not (torch.equal(leaf, theirs[place]) if isinstance(leaf, torch.Tensor) else leaf == theirs[place])
    ]


def test_a_branch_with_the_trunks_seed_is_the_trunk_bit_for_bit_and_one_with_another_is_not(trunk: Run) -> None:
    start = trunk.checkpoint(SPLIT)
    assert any("running_mean" in place for place in leaves(start))
    assert any("momentum_buffer" in place for place in leaves(start))
    branch = train(start=start)
    assert branch.folder != trunk.folder
    assert differing(branch.checkpoint(24), trunk.checkpoint(24)) == []
    later = trunk.recording.steps >= SPLIT
    assert branch.recording.steps.tolist() == [SPLIT, *trunk.recording.steps[later].tolist()]
    for name, values in trunk.recording.metrics.items():
        np.testing.assert_array_equal(branch.recording.metrics[name][1:], values[later])
    for name, values in trunk.recording.singular_values.items():
        np.testing.assert_array_equal(branch.recording.singular_values[name][1:], values[later])
    other = differing(train(100, start=start).checkpoint(24), trunk.checkpoint(24))
    assert {"/model/fc.weight", "/model/layers.0.norm.running_mean"} <= set(other)
    assert not any("schedule" in place or "seed" in place for place in other)


@pytest.mark.parametrize("left_out", ["momentum", "statistics", "schedule", "place"])
def test_without_any_one_part_of_the_state_a_branch_is_another(trunk: Run, left_out: str) -> None:
    start = trunk.checkpoint(SPLIT)
    if left_out == "momentum":
        for buffers in start.optimizer["state"].values():
            buffers["momentum_buffer"].zero_()
    elif left_out == "statistics":
        start.model["layers.0.norm.running_mean"].zero_()
    elif left_out == "schedule":
        start.schedule["last_epoch"] = 0
    else:
        start = replace(start, step=SPLIT - 1)
    assert differing(train(start=start).checkpoint(24), trunk.checkpoint(24))


def test_branches_leave_the_checkpoint_and_the_network_they_were_made_from_alone(trunk: Run) -> None:
    start, final = trunk.checkpoint(SPLIT), trunk.model()
    before, weights = leaves(start), copy.deepcopy(final.state_dict())
    mask = magnitude_mask(final, 0.3)
    masked = with_weights(start, mask.applied(trunk.model(SPLIT)))
    for seed, origin in ((0, start), (100, start), (0, masked)):
        train(seed, start=origin, constraint=Masked(mask))
    after = leaves(start)
    assert all(torch.equal(after[p], v) if isinstance(v, torch.Tensor) else after[p] == v for p, v in before.items())
    assert all(torch.equal(final.state_dict()[name], weights[name]) for name in weights)
    assert leaves(trunk.checkpoint(SPLIT)).keys() == before.keys()


@pytest.mark.parametrize("held", ["mask", "low rank"])
def test_a_held_branch_that_was_killed_goes_on_to_the_same_bits(
    held: str, trunk: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {
        "mask": Masked(magnitude_mask(trunk.model(), 0.3)),
        "low rank": LowRank({"layers.0.conv.weight": 2}, every=3),
    }
    options = {"start": trunk.checkpoint(SPLIT), "constraint": ways[held]}
    undisturbed = train(**options)
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "killed"))
    batch, made = ImageClassification.batch, []

    def killed(self: ImageClassification, data: object, step: int, seed: int) -> object:
        made.append(step)
        if step in (13, 17) and made.count(step) == 1:
            raise KeyboardInterrupt
        return batch(self, data, step, seed)

    monkeypatch.setattr(ImageClassification, "batch", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(**options, save_seconds=0.0)
    resumed = train(**options)
    assert made == [*range(SPLIT, 14), *range(13, 18), *range(17, 24)]  # saved after every update, nothing done twice
    assert resumed.folder.name == undisturbed.folder.name
    assert differing(resumed.checkpoint(24), undisturbed.checkpoint(24)) == []
    for name, values in undisturbed.recording.metrics.items():
        np.testing.assert_array_equal(resumed.recording.metrics[name], values)


def test_only_weights_and_buffers_are_exchanged_and_they_are_copies(trunk: Run) -> None:
    start, model = trunk.checkpoint(SPLIT), trunk.model(SPLIT)
    assert with_weights(start, model).digest == start.digest
    data = TASK.data(0, torch.device("cpu"))
    ticket = reestimate(magnitude_mask(model, 0.3).applied(model), TASK.inputs(data))
    changed = with_weights(start, ticket)
    differ = differing(changed, start)
    assert {"/model/layers.0.conv.weight", "/model/layers.0.norm.running_mean"} <= set(differ)
    assert all(place.startswith("/model/") for place in differ)
    assert "/model/fc.weight" not in differ
    digest = changed.digest
    nn.init.zeros_(ticket.fc.weight)
    assert changed.digest == digest != start.digest
    assert train(start=changed).folder != train(start=start).folder


def test_a_network_that_does_not_fit_is_named_with_what_differs(trunk: Run) -> None:
    start = trunk.checkpoint(SPLIT)
    with pytest.raises(
        ValueError, match=r"at step 10: of 25 that differ bias is \(10,\) in the network and absent in the checkpoint"
    ):
        with_weights(start, nn.Linear(16, 10))
    wide = trunk.model()
    wide.fc = nn.Linear(16, 12)
    with pytest.raises(
        ValueError, match=r"of 2 that differ fc\.bias is \(12,\) in the network and \(10,\) in the checkpoint"
    ):
        with_weights(start, wide)
