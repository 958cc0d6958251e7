"""Defects of the paper's official code that a run would show, each with a test that catches it here.

The numbers only tell them apart. The sixth, a launcher that looks up a cluster's settings in the wrong place, has no
counterpart: nothing is launched on a cluster here. The thirteenth to the nineteenth lie in single measures, and are
tested with these.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import specdyn as sd
from specdyn.interventions import HoldNorm, ShrinkNuclear, Truncation, reestimate, rescaled, truncations
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
