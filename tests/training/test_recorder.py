"""Recorders: the right thing at the right step, once, at the cost that was stated, and the same after any stop."""

import itertools
import re
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch import nn

import specdyn as sd
from specdyn.spectra import Pair
from specdyn.training import Cost

CHAIN = [("0.weight", "1.weight"), Pair("1.weight", "2.weight", "+>")]


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(*itertools.starmap(nn.Linear, itertools.pairwise(widths)))


def drift(model: nn.Module, step: int) -> None:
    """Change every weight as a function of the step alone, so that any part of a run can be repeated."""
    noise = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))


def watched(last: int, **options: object) -> tuple[sd.Recording, list[dict[str, np.ndarray]]]:
    """Return the recording of a run of ``last`` updates, and its weights at every step."""
    model = network(14, 13, 12, 11)
    recorder = sd.Recorder(model, pairs=CHAIN, **options)
    weights = []
    for step in range(last + 1):
        if step:
            drift(model, step)
        weights.append({name: p.detach().double().numpy().copy() for name, p in model.named_parameters() if p.ndim > 1})
        recorder(step)
    return recorder.finish(), weights


def equal(one: sd.Recording, two: sd.Recording) -> bool:
    ours, theirs = one.to_arrays(), two.to_arrays()
    return ours.keys() == theirs.keys() and all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


@pytest.mark.parametrize(
    ("steps", "vectors", "expected", "with_vectors"),
    [
        (4, None, [0, 4, 8, 12], [0, 4, 8, 12]),
        ([0, 3, 9], None, [0, 3, 9], [0, 3, 9]),
        ([3, 9], None, [0, 3, 9], [0, 3, 9]),  # the state before the first update is always there
        (2, 6, [0, 2, 4, 6, 8, 10, 12], [0, 6, 12]),
        (4, 6, [0, 4, 6, 8, 12], [0, 6, 12]),  # vectors come beside the values
        ([0, 1, 2, 4, 8, 11], 4, [0, 1, 2, 4, 8, 11], [0, 4, 8, 11]),  # and at the end, where it is known
        ([0, 4, 8], [5, 8], [0, 4, 5, 8], [5, 8]),
        (4, (), [0, 4, 8, 12], []),
        ([], None, [0], [0]),
    ],
)
def test_snapshots_are_taken_when_they_are_due(
    steps: object, vectors: object, expected: list[int], with_vectors: list[int]
) -> None:
    recording, weights = watched(12, steps=steps, vectors=vectors)
    assert recording.steps.tolist() == expected
    assert recording.vector_steps.tolist() == with_vectors
    for i, step in enumerate(expected):
        truth = np.linalg.svd(weights[step]["1.weight"], compute_uv=False)
        np.testing.assert_allclose(recording.singular_values["1.weight"][i], truth, rtol=1e-5)


def test_a_step_that_is_jumped_over_is_made_up_for_under_the_number_it_is_taken_at() -> None:
    recorder = sd.Recorder(network(4, 3), steps=10, vectors=20)
    for step in range(0, 50, 7):
        recorder(step, loss=step)
    recording = recorder.finish()
    assert recording.steps.tolist() == [0, 14, 21, 35, 42]
    assert recording.vector_steps.tolist() == [0, 21, 42]
    assert recording.metrics["loss"].tolist() == [0, 14, 21, 35, 42]


@pytest.mark.parametrize("vectors", [None, 100, [0, 100]])
def test_a_branch_begins_at_its_first_step_and_forgets_those_before(vectors: object) -> None:
    recorder = sd.Recorder(network(4, 3), steps=range(0, 101, 10), vectors=vectors, first=50)
    for step in range(50, 101):
        recorder(step)
    recording = recorder.finish()
    assert recording.steps.tolist() == [50, 60, 70, 80, 90, 100]
    assert recording.vector_steps[-1] == 100
    cost = recorder.cost()
    assert (cost.snapshots, cost.snapshots_with_vectors) == (6, len(recording.vector_steps))


def test_a_counter_that_starts_again_is_refused() -> None:
    recorder = sd.Recorder(network(4, 3), steps=10)
    for step in range(16):
        recorder(step)
    with pytest.raises(ValueError, match=r"step 0 comes after step 10 was recorded: .* not from 0 in every epoch"):
        recorder(0)
    recorder(10, loss=1.0)  # once more at the same step adds what was not known yet
    assert recorder.finish().steps.tolist() == [0, 10]
    assert recorder.finish().metrics["loss"][1] == 1.0


def test_the_snapshot_just_taken_is_there_until_the_loop_goes_on() -> None:
    model = network(5, 4, 3)
    recorder = sd.Recorder(model, steps=10, vectors=20)
    assert recorder.snapshot["0.weight"].svd.residual(model[0].weight) < 1e-6
    drift(model, 1)
    for step in range(9):
        recorder(step, loss=1.0)
        assert (recorder.snapshot is not None) == (step == 0)
    recorder(10)
    np.testing.assert_allclose(
        recorder.snapshot["0.weight"].singular_values, np.linalg.svd(model[0].weight.detach())[1], rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"0\.weight was measured without vectors"):
        _ = recorder.snapshot["0.weight"].svd
    resumed = sd.Recorder(model, steps=10, vectors=20, resumed=recorder.state())
    assert resumed.snapshot is None


@pytest.mark.parametrize("steps", [[0, 10, 5], [0, 2.5], [-1]])
def test_bad_steps_are_refused_before_anything_runs(steps: object) -> None:
    for arguments in ({"steps": steps}, {"steps": 10, "vectors": steps}):
        with pytest.raises(ValueError, match=rf"^{list(arguments)[-1]} .*sorted\("):
            sd.Recorder(network(4, 3), **arguments)
    with pytest.raises(ValueError, match="directions=-1"):
        sd.Recorder(network(4, 3), steps=1, directions=-1)
    with pytest.raises(TypeError, match="float"):
        sd.Recorder(network(4, 3), steps=1)(2.5)


def aligned(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(np.linalg.svd(first)[0].T @ np.linalg.svd(second)[2].T)


def agreed(now: np.ndarray, end: np.ndarray) -> np.ndarray:
    (u, _, v), (x, _, y) = (np.linalg.svd(matrix, full_matrices=False) for matrix in (now, end))
    return np.abs((u.T @ x) * (v @ y.T))


def subspace_shared(now: np.ndarray, end: np.ndarray, k: int) -> float:
    (u, _, v), (x, _, y) = (np.linalg.svd(matrix, full_matrices=False) for matrix in (now, end))
    angles = (subspace_angles(u[:, :k], x[:, :k]), subspace_angles(v[:k].T, y[:k].T))
    return float(np.prod([np.mean(np.cos(each) ** 2) for each in angles]))


def test_alignments_and_agreements_are_those_of_numpy() -> None:
    recording, weights = watched(30, steps=5, vectors=10)
    assert recording.vector_steps.tolist() == [0, 10, 20, 30]
    for i, step in enumerate(recording.vector_steps):
        for pair in map(lambda names: Pair(*names), CHAIN):
            full = aligned(weights[step][pair.previous], weights[step][pair.next])
            r = min(full.shape[0], weights[step][pair.next].shape[0])
            np.testing.assert_allclose(recording.alignments[pair][i], full.diagonal()[:r], atol=1e-4)
            np.testing.assert_allclose(recording.alignment_blocks[pair][i], full[:10, :10], atol=1e-4)
            assert recording.alignment(pair)[i] == pytest.approx(full.diagonal()[:10].mean(), abs=1e-4)
        for name in recording.matrices:
            full = agreed(weights[step][name], weights[30][name])
            np.testing.assert_allclose(recording.agreements[name][i], full.diagonal()[:10], atol=1e-4)
            np.testing.assert_allclose(recording.agreement_blocks[name][i], full[:10, :10], atol=1e-4)
            assert recording.agreement(name)[i] == pytest.approx(full.diagonal()[:10].mean(), abs=1e-4)
            shared = subspace_shared(weights[step][name], weights[30][name], 10)
            assert recording.subspace_agreement(name)[i] == pytest.approx(shared, abs=1e-4)
    np.testing.assert_allclose(recording.agreements["0.weight"][-1], 1, atol=1e-6)
    assert recording.agreements["0.weight"][0].max() < 0.99


def test_agreement_is_with_the_last_vectors_not_with_the_last_values() -> None:
    recording, weights = watched(30, steps=5, vectors=[0, 20])
    assert recording.steps[-1] == 30
    expected = agreed(weights[0]["2.weight"], weights[20]["2.weight"]).diagonal()[:10]
    np.testing.assert_allclose(recording.agreements["2.weight"][0], expected, atol=1e-4)


def test_chance_levels_are_kept_with_what_they_belong_to() -> None:
    recording, _ = watched(1, steps=1)
    assert recording.alignment_chance(("0.weight", "1.weight")) == sd.alignment_chance(13)
    assert recording.alignment_chance(("1.weight", "2.weight", "+>")) == sd.alignment_chance(12)
    assert recording.agreement_chance("0.weight") == sd.agreement_chance(13, 14)
    assert recording.subspace_agreement_chance("0.weight") == 10 * 10 / (13 * 14)


@pytest.mark.parametrize(("directions", "kept"), [(0, None), (1, 1), (4, 4), (10, 10), (100, 11)])
def test_as_many_directions_are_kept_as_were_asked_for_and_exist(directions: int, kept: int | None) -> None:
    recording, _ = watched(4, steps=2, directions=directions)
    if kept is None:
        assert recording.agreements == {}
        assert recording.agreement_blocks == {}
    else:
        assert recording.agreements["2.weight"].shape == (3, kept)
        assert recording.agreement_blocks["2.weight"].shape == (3, min(kept, 10), min(kept, 10))
    assert recording.alignment_blocks[Pair(*CHAIN[0])].shape == (3, 10, 10)


@pytest.mark.parametrize("rule", ["paper", "norm"])
def test_kernels_are_read_off_by_the_rule_that_is_named(rule: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, pair = nn.Sequential(nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3)), ("0.weight", "1.weight")
    recorder = sd.Recorder(model, steps=[0], pairs=[pair], rule=rule)
    recorder.finish().save(tmp_path / "run.npz")
    recording = sd.Recording.load(tmp_path / "run.npz")
    u, v = (np.linalg.svd(model[i].weight.detach().double().flatten(1).numpy(), full_matrices=False) for i in (0, 1))
    overlap = np.einsum("dj,jdp->jp", u[0], v[2].reshape(12, 12, 9))
    expected = np.abs(overlap[:, 4]) if rule == "paper" else np.linalg.norm(overlap, axis=1)
    np.testing.assert_allclose(recording.alignments[Pair(*pair)][0], expected, atol=1e-5)
    assert recording.rule == rule
    where = {"position": 4} if rule == "paper" else {}
    assert recording.alignment_chance(pair) == sd.alignment_chance(12, positions=9, **where)


def test_weights_are_read_from_the_master_copy_and_attention_by_head_where_that_is_asked() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, bias=False)
    master = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.bfloat16()
    pair = ("in_proj_weight[q*]", "in_proj_weight[k*]", "~")
    recorder = sd.Recorder(model, steps=1, pairs=[pair], split="heads", weights=master)
    master["in_proj_weight"].mul_(2)
    recorder(1)
    recording = recorder.finish()
    assert recording.matrices == tuple(matrix.name for matrix in sd.matrices(model, split="heads"))
    truth = np.linalg.svd(master["in_proj_weight"][:4].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(recording.singular_values["in_proj_weight[q0]"], [truth / 2, truth], rtol=1e-6)
    assert recording.alignments[Pair(*pair)].shape == (2, 4)
    assert recording.alignment_chance(pair) == sd.alignment_chance(4)


def test_whatever_feeds_finds_is_recorded_and_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = {
        "transformer": nn.TransformerEncoderLayer(16, 2, 24, batch_first=True),
        "kernels and a flattened reader": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)),
    }
    arrows = set()
    for name, model in networks.items():
        pairs = sd.spectra.feeds(model)
        sd.Recorder(model, steps=[0], pairs=pairs).finish().save(tmp_path / f"{name}.npz")
        recording = sd.Recording.load(tmp_path / f"{name}.npz")
        assert list(recording.alignments) == list(pairs)
        snapshot = sd.measure(model, pairs=pairs)
        for pair in pairs:
            np.testing.assert_allclose(recording.alignments[pair][0], snapshot.alignment(pair), atol=1e-6)
            assert recording.alignment_chance(pair) == snapshot.alignment_chance(pair)
        arrows |= {pair.arrow for pair in pairs}
    assert {"->", "~"} <= arrows


def test_directions_that_change_places_still_share_their_space() -> None:
    model = nn.Linear(12, 12)
    with torch.no_grad():
        model.weight.copy_(torch.diag(torch.arange(12.0, 0.0, -1.0)))
    recorder = sd.Recorder(model, steps=1)
    with torch.no_grad():
        model.weight[0, 0] = 10.5  # from the largest to the second largest
    recorder(1)
    recording = recorder.finish()
    assert recording.agreement("weight")[0] == pytest.approx(0.8)
    np.testing.assert_allclose(recording.agreement_blocks["weight"][0, :2, :2], [[0, 1], [1, 0]], atol=1e-6)
    assert recording.subspace_agreement("weight")[0] == pytest.approx(1)


def test_thin_and_deficient_matrices_keep_what_they_have() -> None:
    model = network(6, 1, 5)
    with torch.no_grad():
        model[0].weight.zero_()
    recording = sd.Recorder(model, steps=[0], pairs=[("0.weight", "1.weight")]).finish()
    assert recording.agreement_blocks["1.weight"].shape == (1, 1, 1)
    assert recording.agreements["1.weight"] == pytest.approx(1)
    assert np.isnan(recording.agreements["0.weight"]).all()  # zero has no directions
    assert np.isnan(recording.agreement("0.weight")).all()
    assert np.isnan(recording.alignment(("0.weight", "1.weight"))).all()


@pytest.mark.parametrize("stopped", [0, 1, 5, 13, 20])
@pytest.mark.parametrize("vectors", [None, 7, (), [4, 16]])
def test_a_recorder_that_was_stopped_goes_on_to_the_same_bits(vectors: object, stopped: int, tmp_path: Path) -> None:
    options = {"steps": 4, "vectors": vectors, "pairs": CHAIN, "directions": 3}

    def run(model: nn.Module, recorder: sd.Recorder, steps: Iterable[int]) -> None:
        for step in steps:
            drift(model, step)
            recorder(step, **({"loss": step / 3} if step % 8 else {}))

    undisturbed = network(14, 13, 12, 11)
    recorder = sd.Recorder(undisturbed, **options)
    run(undisturbed, recorder, range(1, 25))

    model = network(14, 13, 12, 11)
    before = sd.Recorder(model, **options)
    run(model, before, range(1, stopped + 1))
    np.savez(tmp_path / "state.npz", allow_pickle=False, **before.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        after = sd.Recorder(model, **options, resumed=state)
    run(model, after, range(stopped + 1, 25))
    assert equal(after.finish(), recorder.finish())


def test_a_state_is_not_taken_up_by_another_recorder() -> None:
    model = network(14, 13, 12, 11)
    state = sd.Recorder(model, steps=1, pairs=CHAIN).state()
    for options in ({"pairs": CHAIN[:1]}, {"pairs": CHAIN, "directions": 3}, {"pairs": CHAIN, "rule": "norm"}):
        with pytest.raises(ValueError, match=r"state of a recorder with pairs: 0\.weight -> 1\.weight, .*; this one"):
            sd.Recorder(model, steps=1, resumed=state, **options)


def test_matrices_that_change_on_the_way_are_named() -> None:
    model = network(14, 13, 12)
    recorder = sd.Recorder(model, steps=1)
    model[1] = nn.Linear(13, 5)
    with pytest.raises(ValueError, match=r"were .*1\.weight 12 x 13 and are .*1\.weight 5 x 13 at step 1: "):
        recorder(1)
    state = recorder.state()
    with pytest.raises(ValueError, match=r"the matrices were .*1\.weight 12 x 13 and are 0\.weight 3 x 2 at step 1"):
        sd.Recorder(network(2, 3), steps=1, resumed=state)(1)


def test_a_pair_that_makes_no_sense_fails_before_training_whenever_it_is_due() -> None:
    for pair in (("0.weight", "9.weight"), ("0.weight", "2.weight")):
        with pytest.raises((KeyError, ValueError), match=r"9\.weight|writes 13 numbers"):
            sd.Recorder(network(14, 13, 12, 11), steps=10, vectors=[1000], pairs=[pair])


def test_every_matrix_is_decomposed_once_a_snapshot_whatever_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposed = []
    for name in ("eigh", "eigvalsh", "svd", "svdvals"):

        def counted(*arguments: object, solver: object = getattr(torch.linalg, name), **options: object) -> object:
            decomposed.append(solver)
            return solver(*arguments, **options)

        monkeypatch.setattr(torch.linalg, name, counted)
    recorder = sd.Recorder(network(14, 13, 12, 11), steps=1, vectors=2, pairs=CHAIN)
    assert len(decomposed) == 3
    recorder(1)
    assert len(decomposed) == 6
    recorder(2)
    assert len(decomposed) == 9
    recorder.finish()
    recorder.state()
    recorder(2, loss=1.0)
    assert len(decomposed) == 9
    values, vectors = decomposed[3:6], decomposed[6:9]
    assert set(values).isdisjoint(vectors)  # values alone are not got from vectors


def test_finish_may_be_called_on_the_way() -> None:
    model = network(14, 13, 12, 11)
    recorder = sd.Recorder(model, steps=1)
    half_way = recorder.finish()
    drift(model, 1)
    recorder(1)
    assert half_way.steps.tolist() == [0]
    assert recorder.finish().steps.tolist() == [0, 1]
    assert recorder.finish().agreement("0.weight")[0] < half_way.agreement("0.weight")[0]


def test_recorder_names_the_parameter_that_is_not_finite() -> None:
    model = nn.Linear(3, 2)
    recorder = sd.Recorder(model, steps=[0, 1])
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weight: 1 of 6 entries is NaN"):
        recorder(1)
    assert recorder.finish().steps.tolist() == [0]


def test_recorder_takes_a_loss_as_it_comes_out_of_the_model() -> None:
    model = nn.Linear(3, 2)
    recorder = sd.Recorder(model, steps=[0])
    recorder(0, loss=model(torch.ones(3)).square().sum(), accuracy=np.float32(0.5))
    metrics = recorder.finish().metrics
    assert metrics["loss"][0] == pytest.approx(model(torch.ones(3)).square().sum().item())
    assert metrics["accuracy"].tolist() == [0.5]


@pytest.mark.parametrize("value", [torch.ones(3), "high", None])
def test_recorder_names_the_metric_that_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"loss is no single number .*loss=values\.mean"):
        sd.Recorder(nn.Linear(3, 2), steps=[0])(0, loss=value)


def test_recorder_refuses_what_is_no_pair() -> None:
    lines: list[object] = ["0.weight -> 1.weight"]
    with pytest.raises(ValueError, match=r"is no pair: give .*specdyn\.declare"):
        sd.Recorder(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), 1, pairs=lines)  # type: ignore[arg-type]


def test_recorder_leaves_model_and_random_state_alone() -> None:
    model = nn.Linear(3, 2)
    before, draws = model.weight.detach().clone(), torch.random.get_rng_state()
    version = model.weight._version
    recorder = sd.Recorder(model, steps=[0, 1])
    recorder(1)
    recorder.cost()
    assert torch.equal(model.weight, before)
    assert model.weight._version == version
    assert model.weight.grad is None
    assert torch.equal(draws, torch.random.get_rng_state())


def test_cost_is_the_work_timed_and_leaves_the_recorder_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(14, 13, 12, 11)
    recorder = sd.Recorder(model, steps=range(0, 100, 10), vectors=30, pairs=CHAIN)
    before, measure = recorder.state(), sd.spectra.measure

    def slow(*arguments: object, vectors: bool, **options: object) -> sd.spectra.Snapshot:
        time.sleep(0.4 if vectors else 0.05)
        return measure(*arguments, vectors=vectors, **options)

    monkeypatch.setattr(sd.spectra, "measure", slow)
    cost = recorder.cost()
    assert 0.05 < cost.seconds < 0.4 < cost.seconds_with_vectors < 2
    assert (cost.snapshots, cost.snapshots_with_vectors) == (10, 4)
    assert cost.total_seconds == 6 * cost.seconds + 4 * cost.seconds_with_vectors
    after = recorder.state()
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_the_end_of_an_endless_run_is_not_known() -> None:
    cost = sd.Recorder(network(14, 13), steps=10).cost()
    assert (cost.snapshots, cost.total_seconds, cost.total_memory, cost.total_file) == (None, None, None, None)
    assert "the end of the run is not known" in str(cost)


@pytest.mark.parametrize("method", ["auto", "qr"])
@pytest.mark.parametrize("vectors", [None, ()])
def test_memory_grows_by_what_was_stated(method: str, vectors: object) -> None:
    model = network(500, 400, 300)
    recorder = sd.Recorder(model, steps=1, pairs=[("0.weight", "1.weight")], vectors=vectors, method=method)
    cost = recorder.cost()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for step in range(1, 6):
            recorder(step)
        grown = (tracemalloc.get_traced_memory()[0] - before) / 5
    finally:
        tracemalloc.stop()
    stated = cost.memory if vectors == () else cost.memory_with_vectors
    assert grown == pytest.approx(stated, abs=4000)  # of objects around the arrays
    assert recorder.cost().held == cost.held + 5 * stated


def test_files_grow_by_what_was_stated() -> None:
    model = network(14, 13, 12, 11)
    recorder = sd.Recorder(model, steps=range(0, 13), vectors=4, pairs=CHAIN, directions=12)
    cost = recorder.cost()
    for step in range(1, 13):
        drift(model, step)
        recorder(step)
    kinds = ("singular_values", "alignment", "alignment_block", "agreement", "agreement_block", "subspace_agreement")
    arrays = recorder.finish().to_arrays()
    assert sum(array.nbytes for key, array in arrays.items() if key.partition("/")[0] in kinds) == cost.total_file


def test_a_cost_says_what_it_is() -> None:
    cost = Cost(0.5, 2.0, 1_000, 3_000_000, 1_000, 2_000, 7_000, snapshots=3, snapshots_with_vectors=2)
    assert (cost.total_seconds, cost.total_memory, cost.total_file) == (4.5, 6_001_000, 5_000)
    said = str(cost)
    assert re.search(r"without vectors +0\.5 +1\.0 kB +1\.0 kB\n", said)
    assert re.search(r"with vectors +2 +3\.0 MB +2\.0 kB\n", said)
    assert "3 snapshots, 2 with vectors: 4.5 s, 6.0 MB of memory, a file of 5.0 kB; 7.0 kB of memory held now" in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_network_on_cuda_is_recorded_as_on_the_cpu() -> None:
    recordings = []
    for device in ("cpu", "cuda"):
        model = network(14, 13, 12, 11).to(device)
        recorder = sd.Recorder(model, steps=1, pairs=CHAIN)
        with torch.no_grad():
            model[0].weight.add_(0.1)
        recorder(1)
        recordings.append(recorder.finish())
    ours, theirs = (recording.to_arrays() for recording in recordings)
    for key in ours:
        if ours[key].dtype.kind == "f":
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-4)
