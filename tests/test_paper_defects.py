"""Defects of the paper's official code that a run would show, each with a test that catches it here.

The numbers only tell them apart. The sixth, a launcher that looks up a cluster's settings in the wrong place, has no
counterpart: nothing is launched on a cluster here.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import specdyn as sd
from specdyn.interventions import (
    HoldNorm,
    Mixer,
    ShrinkNuclear,
    Truncation,
    line,
    mixing,
    perturbed,
    reestimate,
    rescaled,
    truncations,
    with_weights,
)
from specdyn.tasks import datasets, image_data, tokens
from specdyn.tasks.speech_recognition import _SOURCES, BLANK, LabelledSpeech

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SMOKE = sd.tasks.four_tasks("smoke")

each_task = pytest.mark.parametrize("name", SMOKE)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def some_cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[datasets.LabelledImages]:
    """Stand noise in for CIFAR-10, in its shapes."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 32, 32), generator=draws, dtype=torch.uint8)
    labels = torch.arange(12) % 10
    made = datasets.LabelledImages(images, labels, images[:4], labels[:4], tuple("abcdefghij"))
    monkeypatch.setattr(datasets, "cifar10", lambda: made)
    image_data.load.cache_clear()
    yield made
    image_data.load.cache_clear()


@pytest.mark.parametrize("tier", ["gpu", "paper"])
def test_1_image_classification_on_cifar_starts(tier: str, some_cifar: None) -> None:
    task = sd.tasks.image_classification(tier, train_size=8, validation_size=4, batch_size=4)
    assert task.dataset == "cifar10"
    model = sd.tasks.build(task, 0)
    before = model.fc.weight.detach().clone()
    optimizer = task.optimizer(model)
    task.loss(model, task.batch(task.data(0, CPU), 0, 0)).backward()
    optimizer.step()
    assert model.fc.weight.isfinite().all()
    assert not torch.equal(model.fc.weight, before)


def test_2_an_unknown_network_or_dataset_is_refused_and_not_another_one() -> None:
    with pytest.raises(ValueError, match="plan has 'resnet': give a number of channels"):
        sd.tasks.build(replace(SMOKE["images"], plan=("resnet",)), 0)
    for task in SMOKE.values():
        with pytest.raises(ValueError, match=r"unknown .*'lenet': choose one of "):
            replace(task, dataset="lenet").data(0, CPU)


def test_3_a_setting_that_no_task_has_stops_a_sweep_before_anything_runs(runs: Path) -> None:
    with pytest.raises(TypeError, match="random_mask"):
        sd.sweep(SMOKE, random_mask=[False, True], seed=[0], device="cpu")
    assert not runs.exists()


@each_task
@pytest.mark.parametrize("constraint", [HoldNorm(1.5), ShrinkNuclear(rate=1.0, every=2)], ids=repr)
def test_4_every_intervention_works_in_every_task(name: str, constraint: sd.training.Constraint) -> None:
    task = SMOKE[name]
    model = sd.tasks.build(task, 0).eval()
    act, data = constraint.bind(model), task.data(0, CPU)
    before = sd.measure(model)
    act(2, 0.01)
    after = sd.measure(model)
    for matrix in before:
        if isinstance(constraint, HoldNorm):
            assert after[matrix].frobenius_norm == pytest.approx(1.5 * before[matrix].frobenius_norm, rel=1e-4)
        else:
            assert after[matrix].nuclear_norm < before[matrix].nuclear_norm
    norms = {matrix: spectrum.frobenius_norm for matrix, spectrum in before.items()}
    same_size = sd.measure(rescaled(model, norms))
    assert [spectrum.frobenius_norm for spectrum in same_size.values()] == pytest.approx(list(norms.values()), rel=1e-4)
    with torch.no_grad():
        (half,) = truncations(model, [0.5])
        expected = task.metrics(reestimate(half, task.inputs(data)), data)
        measured = Truncation()(task, model, data, after)
    for metric, value in expected.items():
        assert measured[f"top_{metric}"] == pytest.approx(value, abs=1e-4)


@each_task
def test_4_noise_reaches_every_matrix_but_the_last_and_the_branch_that_starts_from_it(name: str) -> None:
    task = replace(SMOKE[name], steps=2)
    trunk = sd.train(task, 0, keep=[1], device="cpu", progress=False)
    start, draws = trunk.checkpoint(1), sd.tasks.generator(0, "perturbation")
    noisy = perturbed(trunk.model(1), 0.5, draws)
    old, new = sd.matrices(trunk.model(1)), sd.matrices(noisy)
    for before, after in zip(old[:-1], new[:-1], strict=True):
        one, two = (matrix.view.double().flatten().numpy() for matrix in (before, after))
        assert np.linalg.norm(two) == pytest.approx(np.linalg.norm(one), rel=1e-5)
        cosine = one @ two / (one @ one)
        assert cosine == pytest.approx(1 / 1.25**0.5, abs=4 / len(one) ** 0.5)
    assert torch.equal(old[-1].view, new[-1].view)
    same, other = (
        sd.train(task, 0, start=with_weights(start, model), device="cpu", progress=False).checkpoint(2).model
        for model in (perturbed(trunk.model(1), 0.0, draws), noisy)
    )
    end = trunk.checkpoint(2).model
    assert all(torch.equal(end[key], tensor) for key, tensor in same.items())
    assert not any(torch.equal(end[matrix.name], other[matrix.name]) for matrix in old)


def test_4_it_is_the_noise_of_the_official_code_number_for_number() -> None:
    model = sd.tasks.build(SMOKE["images"], 0)
    draws, noisy = torch.Generator().manual_seed(7), perturbed(model, 0.25, torch.Generator().manual_seed(7))
    weights = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    for name in weights[:-1]:
        weight = model.get_parameter(name).detach()
        noise = torch.randn(weight.shape, generator=draws)
        away = weight + 0.25 * weight.square().sum().sqrt() * noise / noise.square().sum().sqrt()
        expected = away * (weight.square().sum() / away.square().sum()).sqrt()
        torch.testing.assert_close(noisy.get_parameter(name).detach(), expected)


def test_5_no_file_has_a_name_that_is_not_defined() -> None:
    rooms = [str(ROOT / room) for room in ("lib", "tools", "benchmarks", "book")]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F822,F823", *rooms]
    found = subprocess.run(ruff, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("dataset", _SOURCES)
def test_7_the_speech_network_has_an_output_for_every_character_and_the_blank(dataset: str) -> None:
    alphabet = _SOURCES[dataset].alphabet
    numbers = alphabet.encode(alphabet.characters)
    model = sd.tasks.BidirectionalLSTM(40, 8, 1, alphabet)
    assert BLANK not in numbers
    assert len(set(numbers)) == len(alphabet.characters)
    assert max(numbers) < model.linear.out_features
    last = alphabet.characters[-1]
    with torch.no_grad():
        model.linear.bias[numbers[-1]] = 50.0
    assert sd.tasks.transcribe(model, torch.zeros(1, 9, 40), torch.tensor([9])) == [last]
    loss = F.ctc_loss(
        model(torch.zeros(1, 9, 40)).log_softmax(-1).transpose(0, 1), torch.tensor([numbers[-1:]]), (9,), (1,)
    )
    assert loss < 1e-3


def test_7_a_character_outside_the_alphabet_is_refused_before_ctc_reads_out_of_bounds() -> None:
    alphabet = sd.tasks.Alphabet("ABC")
    with pytest.raises(ValueError, match=r"seventh: 'CAZE' has 'E', but the alphabet is 'ABC'"):
        LabelledSpeech.of([("seventh", torch.zeros(50, 40), "CAZE")], alphabet, CPU)


def test_8_each_direction_of_an_lstm_is_compared_with_the_columns_that_read_it() -> None:
    model = sd.tasks.BidirectionalLSTM(10, 6, 2, sd.tasks.Alphabet("abcdef"))
    into = {pair.previous: pair.next for pair in sd.feeds(model) if pair.next.startswith("linear.weight")}
    halves = {"": "[:,0:6]", "_reverse": "[:,6:12]"}
    assert into == {
        f"lstm.weight_{side}_l1{way}": f"linear.weight{columns}"
        for side in ("ih", "hh")
        for way, columns in halves.items()
    }
    gate = slice(12, 18)  # the candidate, which the paper compares
    with torch.no_grad():  # let the reverse half read, direction for direction, what that gate writes
        reverse = model.lstm.weight_ih_l1_reverse
        U, S, Vh = torch.linalg.svd(reverse[gate], full_matrices=False)
        reverse.zero_()
        reverse[gate] = U * S @ Vh
        model.linear.weight[:, 6:] = torch.eye(8, 6) * S @ U.mT
    pair = ("lstm.weight_ih_l1_reverse", "linear.weight[:,6:12]")
    assert sd.measure(model, pairs=[pair]).alignment(pair) == pytest.approx([1] * 6, abs=1e-5)


def shares(task: sd.tasks.Task) -> list[float]:
    """The learning rate of every update, as a share of the highest."""
    parameter = nn.Parameter(torch.zeros(1))
    holder = SimpleNamespace(parameters=lambda: iter([parameter]))
    optimizer = task.optimizer(holder)
    schedule = task.schedule(optimizer)
    found = []
    for _ in range(task.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [rate / max(found) for rate in found]


@pytest.mark.parametrize("tier", sd.tasks.TIERS)
def test_9_the_learning_rate_of_language_goes_all_the_way_down_without_a_glitch(tier: str) -> None:
    task = sd.tasks.language_modeling(tier)
    found = shares(task)
    assert found[0] == pytest.approx(1 / task.warmup)
    assert max(found) == found[task.warmup] == 1
    assert found[-1] == pytest.approx(0.1, abs=0.01)
    assert all(abs(b - a) <= 1.001 / task.warmup for a, b in pairwise(found[: task.warmup + 2]))
    assert all(b <= a for a, b in pairwise(found[task.warmup :]))


def test_9_nor_does_the_warmup_of_the_slingshot_end_in_one() -> None:
    found = shares(replace(sd.tasks.grokking_settings("smoke")["slingshot"], steps=30))
    assert found == pytest.approx([min(1.0, step / 10) for step in range(1, 31)])


def test_10_rare_words_become_the_unknown_token() -> None:
    words = tokens.Words.of("a <unk> house \n")
    assert words.encode("a castle").tolist() == words.encode("a <unk>").tolist()


def test_10_an_embedding_with_fewer_rows_than_there_are_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token numbers up to 36, but the embedding has 36 rows: set vocabulary=37"):
        sd.tasks.language_modeling("smoke", vocabulary=36).data(0, CPU)


@each_task
def test_11_a_batch_has_the_size_that_was_asked_for(name: str) -> None:
    task = SMOKE[name]
    for size in (task.batch_size, 3):
        asked = replace(task, batch_size=size)
        batch = asked.batch(asked.data(0, CPU), 0, 0)
        first = batch[0] if isinstance(batch, tuple) else batch
        assert len(first) == size


def test_11_every_row_of_the_grokking_figure_is_there_to_be_run() -> None:
    assert list(sd.tasks.grokking_settings("paper")) == ["no decay", "decay", "slingshot", "more data"]


@each_task
def test_12_a_recording_holds_every_setting_its_run_is_made_from_again(name: str) -> None:
    task = replace(SMOKE[name], steps=1)
    recorded = sd.train(task, 0, device="cpu", progress=False).recording.provenance["task"]
    listed = {field: list(value) if isinstance(value, tuple) else value for field, value in asdict(task).items()}
    assert recorded == listed


def test_13_no_measure_shifts_the_singular_values_it_is_given() -> None:
    weight = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = nn.Linear(6, 9, bias=False)
    layer.weight = nn.Parameter(weight)
    s = sd.measure(layer)["weight"].singular_values
    measures = sd.spectra.effective_rank, sd.spectra.spectral_entropy, sd.spectra.count_rank, sd.spectra.stable_rank
    for measure in (*measures, sd.spectra.gini, sd.spectra.nuclear_norm):
        measure(s)
    assert torch.as_tensor(s).numpy() == pytest.approx(torch.linalg.svdvals(weight).numpy(), rel=1e-12, abs=1e-12)


def test_14_no_error_is_swallowed_whatever_it_is() -> None:
    rooms = [str(ROOT / room) for room in ("lib", "tools", "benchmarks", "book")]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E722,S110,S112", *rooms]
    found = subprocess.run(ruff, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_14_matrices_that_do_not_meet_and_weights_that_are_nan_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(5, 2))
    with pytest.raises(ValueError, match=r"shape \(3, 4\) writes 3 numbers and one of shape \(2, 5\) reads 5"):
        sd.measure(model, pairs=[("0.weight", "1.weight")]).alignment(("0.weight", "1.weight"))
    nn.init.constant_(model[1].weight, float("nan"))
    with pytest.raises(ValueError, match=r"1\.weight: 10 of 10 entries are NaN or infinite"):
        sd.measure(model)


def test_15_networks_that_are_mixed_often_are_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposed: list[str] = []

    def counting(view: torch.Tensor, *, name: str) -> sd.spectra.SVD:
        decomposed.append(name)
        return sd.spectra.decompose(view, name=name)

    monkeypatch.setattr(mixing, "decompose", counting)
    one, two = (sd.tasks.build(SMOKE["images"], seed) for seed in (0, 1))
    mixer = Mixer(one, two, 0.5)
    for share in (0.0, 0.5, 1.0):
        mixer(top=share, rest=1 - share)
    names = [matrix.name for matrix in sd.matrices(one)][:-1]
    assert sorted(decomposed) == sorted(2 * names)


@each_task
def test_16_a_recording_holds_a_number_a_rank_and_no_table(name: str) -> None:
    recording = sd.train(replace(SMOKE[name], steps=1), 0, device="cpu", progress=False).recording
    ranks = {matrix.name: min(matrix.shape) for matrix in sd.matrices(sd.tasks.build(SMOKE[name], 0))}
    assert recording.agreements
    for matrix, scores in recording.agreements.items():
        assert scores.shape[0] == len(recording.steps)
        assert scores[0].size <= ranks[matrix]
    for scores in recording.alignments.values():
        assert scores[0].size <= max(ranks.values())


@each_task
def test_17_a_network_is_judged_the_same_whatever_was_drawn_before_and_has_no_barrier_to_itself(name: str) -> None:
    task = SMOKE[name]
    data, model = task.data(0, CPU), sd.tasks.build(task, 0).eval()
    with torch.no_grad():
        first = task.metrics(model, data)
        torch.rand(3)
        assert task.metrics(model, data) == first
    found = line(task, model, model, data, points=3, batches=2)
    assert found.barrier() == found.barrier(over="interior") == found.standard_error() == 0


@pytest.mark.parametrize("name", ["images", "generation"])
def test_17_every_example_counts_the_same_in_the_last_batch_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = SMOKE[name]
    data, model = task.data(0, CPU), sd.tasks.build(task, 0).eval()
    whole = task.metrics(model, data)
    for module in (sd.tasks.image_data, sd.tasks.image_generation):
        monkeypatch.setattr(module, "_CHUNK", 7, raising=False)
    assert task.metrics(model, data) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_18_heads_are_counted_by_the_network_and_the_last_matrix_is_the_one_it_has_last(heads: int) -> None:
    model = sd.tasks.Transformer(11, 6, layers=1, width=8, heads=heads, hidden=5)
    queries = [matrix for matrix in sd.matrices(model, split="heads") if "[q" in matrix.name]
    assert [matrix.shape for matrix in queries] == [(8 // heads, 8)] * heads
    backwards = nn.ModuleDict({"z": nn.Linear(4, 4), "a": nn.Linear(4, 2)})
    noisy = perturbed(backwards, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(noisy["a"].weight, backwards["a"].weight)
    assert not torch.equal(noisy["z"].weight, backwards["z"].weight)


def test_19_statistics_are_estimated_again_where_there_are_any_and_elsewhere_no_batch_is_drawn() -> None:
    drawn = []

    def batches() -> Iterator[torch.Tensor]:
        drawn.append(True)
        yield torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    groups = nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6))
    batch = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    same = reestimate(groups, batches())
    assert not drawn
    assert all(torch.equal(groups.state_dict()[key], tensor) for key, tensor in same.state_dict().items())
    fresh = reestimate(batch, batches())
    assert drawn
    given = batch[0](next(batches()))
    torch.testing.assert_close(fresh[1].running_mean, given.mean(0))
    torch.testing.assert_close(fresh[1].running_var, given.var(0))


def test_20_an_alignment_comes_with_its_chance_level_and_untrained_layers_are_at_it() -> None:
    task, pair = sd.tasks.noisy_labels("laptop"), ("layers.1.weight", "layers.2.weight")
    untrained = [sd.measure(sd.tasks.build(task, seed), pairs=[pair]) for seed in range(10)]
    scores = [float(snapshot.alignment(pair)[:10].mean()) for snapshot in untrained]
    chance = untrained[0].alignment_chance(pair)
    assert chance == pytest.approx((2 / (torch.pi * 256)) ** 0.5, rel=0.01)
    assert sum(scores) / 10 == pytest.approx(chance, rel=0.25)


@each_task
def test_20_every_recorded_pair_and_matrix_has_its_chance_level(name: str) -> None:
    recording = sd.train(replace(SMOKE[name], steps=1), 0, device="cpu", progress=False).recording
    assert recording.alignment_chances.keys() == recording.alignments.keys()
    assert recording.agreement_chances.keys() == recording.agreements.keys()
    assert all(
        0 < chance <= 1 for chance in (*recording.alignment_chances.values(), *recording.agreement_chances.values())
    )


def test_20_components_that_change_places_are_still_the_same_directions() -> None:
    model = sd.tasks.build(sd.tasks.noisy_labels("smoke"), 0)
    recorder = sd.Recorder(model, steps=[0, 1])
    U, S, Vh = torch.linalg.svd(model.layers[1].weight.detach())
    S[[2, 3]] = S[[3, 2]]
    with torch.no_grad():
        model.layers[1].weight.copy_(U * S @ Vh)
    recorder(1)
    recording = recorder.finish()
    by_index = recording.agreements["layers.1.weight"][0]
    assert by_index[:5] == pytest.approx([1, 1, 0, 0, 1], abs=1e-3)
    assert recording.subspace_agreements["layers.1.weight"][0] == pytest.approx(1, abs=1e-3)


def test_21_labels_to_validate_and_test_on_stay_right_where_all_others_are_permuted(
    some_cifar: datasets.LabelledImages,
) -> None:
    task = sd.tasks.noisy_labels("paper", corrupted=1.0, train_size=8, validation_size=4)
    data = task.data(0, CPU)
    assert data.wrong.any()
    known = {tuple(image.flatten().tolist()): int(label) for image, label in zip(
        torch.cat([some_cifar.train, some_cifar.test]), torch.cat([some_cifar.train_labels, some_cifar.test_labels]),
        strict=True,
    )}  # fmt: skip
    for images, labels in ((data.validation, data.validation_labels), (data.test, data.test_labels)):
        assert labels.tolist() == [known[tuple(image.flatten().tolist())] for image in images]
    as_there = replace(task, corrupted_validation=True).data(0, CPU)
    assert not torch.equal(as_there.validation_labels, data.validation_labels)


@each_task
def test_21_a_test_set_is_there_to_judge_by_apart_from_what_snapshots_report(name: str) -> None:
    task = SMOKE[name]
    data, model = task.data(0, CPU), sd.tasks.build(task, 0).eval()
    with torch.no_grad():
        judged, watched = task.quality(model, data), task.metrics(model, data)
    assert any(metric.startswith("test_") for metric in judged)
    assert not judged.keys() & watched.keys()


@each_task
def test_29_a_branch_takes_the_trunks_momentum_and_leaves_none_of_its_own_behind(name: str) -> None:
    task = replace(SMOKE[name], steps=3)
    trunk = sd.train(task, 0, keep=[2], device="cpu", progress=False)
    start = trunk.checkpoint(2)

    def end(seed: int, checkpoint: sd.training.Checkpoint) -> dict[str, torch.Tensor]:
        return sd.train(task, seed, start=checkpoint, device="cpu", progress=False).checkpoint(3).model

    begun = with_weights(start, trunk.model(2))
    end(1, begun)  # has momentum of its own in the end
    again, other = end(0, begun), end(0, replace(start, optimizer={**start.optimizer, "state": {}}))
    trained = trunk.checkpoint(3).model
    assert begun.digest == trunk.checkpoint(2).digest
    assert all(torch.equal(tensor, trained[key]) for key, tensor in again.items())
    assert not all(torch.equal(tensor, trained[key]) for key, tensor in other.items())
