"""Runs: repeated exactly, kept once, branched, resumed after any kill, and refused with a reason."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import specdyn as sd
from specdyn.training import DivergedError, Run, loop

TASK = sd.tasks.modular_addition("smoke")


def train(task: sd.tasks.Task = TASK, seed: int = 0, **options: object) -> Run:
    return sd.train(task, seed, device="cpu", progress=False, **options)


def state(run: Run, step: int | None = None) -> dict[str, Tensor]:
    """Everything a checkpoint holds, flattened."""
    checkpoint = run.checkpoint(run.kept[-1] if step is None else step)
    flat = {f"model/{name}": tensor for name, tensor in checkpoint.model.items()}
    for index, buffers in checkpoint.optimizer["state"].items():
        flat |= {f"optimizer/{index}/{name}": tensor for name, tensor in buffers.items()}
    return flat


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def same_recording(one: sd.Recording, two: sd.Recording) -> bool:
    ours, theirs = one.to_arrays(), two.to_arrays()
    ours.pop("provenance"), theirs.pop("provenance")  # holds the seconds it took
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name], equal_nan=ours[name].dtype.kind == "f") for name in ours
    )


def test_training_learns_and_reports_what_it_did() -> None:
    recording = train().recording
    assert recording.metrics["train_loss"][-1] < 0.5 * recording.metrics["train_loss"][0]
    assert recording.steps.tolist() == list(TASK.snapshots)
    for key in ("task", "seed", "torch", "threads", "device", "library", "seconds"):
        assert key in recording.provenance, key


def test_a_finished_run_is_not_repeated_and_another_seed_is_another_run() -> None:
    first = train()
    written = (first.folder / "recording.npz").stat().st_mtime_ns
    again = train()
    assert again.folder == first.folder
    assert (again.folder / "recording.npz").stat().st_mtime_ns == written
    assert train(seed=1).folder != first.folder
    assert not same(state(train(seed=1)), state(first))


def test_the_same_run_in_another_folder_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(keep=[30])
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "elsewhere"))
    torch.manual_seed(999)  # the global random state must not matter
    torch.set_num_threads(2)  # nor the threads it was called with
    second = train(keep=[30])
    assert second.folder != first.folder
    assert same(state(first), state(second))
    assert same(state(first, 30), state(second, 30))
    assert same_recording(first.recording, second.recording)


def test_model_is_the_network_the_recording_ends_with() -> None:
    run = train()
    snapshot = sd.measure(run.model())
    for name, spectrum in snapshot.items():
        np.testing.assert_allclose(
            spectrum.singular_values, run.recording.singular_values[name][-1], rtol=1e-6, atol=1e-7
        )


def test_a_branch_with_the_trunks_own_seed_continues_the_trunk_bit_for_bit() -> None:
    trunk = train(keep=[20])
    branch = train(start=trunk.checkpoint(20))
    assert branch.folder != trunk.folder
    assert same(state(branch), state(trunk))
    assert branch.recording.steps.tolist() == [s for s in trunk.recording.steps.tolist() if s >= 20]


def test_branches_do_not_share_momentum_with_their_checkpoint() -> None:
    checkpoint = train(keep=[20]).checkpoint(20)
    before = {i: dict(s) for i, s in checkpoint.optimizer["state"].items()}
    copies = {i: {k: v.clone() for k, v in s.items()} for i, s in before.items()}
    train(start=checkpoint, seed=3)
    for index, buffers in copies.items():
        for name, value in buffers.items():
            assert torch.equal(checkpoint.optimizer["state"][index][name], value), name


def test_a_branch_from_after_its_end_is_refused_and_one_from_the_end_is_the_trunk() -> None:
    trunk = train(keep=[20])
    with pytest.raises(ValueError, match=r"a branch from step 60 of .* begins after its end 40: split earlier"):
        train(replace(TASK, steps=40), start=trunk.checkpoint(60))
    assert same(state(train(start=trunk.checkpoint(60), seed=3)), state(trunk))


def test_a_branch_keeps_the_data_split_and_takes_its_own_settings() -> None:
    checkpoint = train(keep=[20]).checkpoint(20)
    other_seed = train(start=checkpoint, seed=5)  # full batch: the seed has nothing else to change
    assert same(state(other_seed), state(train(start=checkpoint)))
    without = replace(TASK, weight_decay=0.0)
    assert not same(state(train(without, start=checkpoint)), state(train(start=checkpoint)))
    (group,) = train(without, start=checkpoint).checkpoint(60).optimizer["param_groups"]
    assert group["weight_decay"] == 0.0


def test_a_constraint_acts_after_every_update() -> None:
    run = train(replace(TASK, weight_decay=0.0), constraint=sd.interventions.HoldNorm(2.0))
    norms = np.stack([run.recording.frobenius_norm(name) for name in run.recording.matrices])
    np.testing.assert_allclose(norms[:, 1:], 2 * norms[:, :1].repeat(norms.shape[1] - 1, 1), rtol=1e-5)
    free = train(replace(TASK, weight_decay=0.0))
    assert run.folder != free.folder


@dataclass(frozen=True)
class Look:
    """Measures the network anew and compares; draws at random and meddles with what it may meddle with."""

    scale: float = 1.0

    def __call__(
        self, task: sd.tasks.Task, model: nn.Module, data: object, snapshot: sd.spectra.Snapshot
    ) -> dict[str, float]:
        fresh = sd.measure(model)
        gap = max(abs(fresh[name].singular_values - snapshot[name].singular_values).max() for name in fresh)
        vectors = min(spectrum.svd.orthogonality() < 1e-6 for spectrum in snapshot.values())
        torch.rand(3)
        return {
            "gap": float(gap),
            "vectors": float(vectors),
            "train_twice": 2 * task.metrics(model, data)["train_loss"],
        }


def test_a_probe_sees_every_snapshot_of_the_network_as_it_is_then_and_changes_nothing() -> None:
    run, alone = train(probe=Look(), keep=[20]), train(keep=[20])
    metrics = run.recording.metrics
    assert metrics["gap"].tolist() == [0.0] * len(run.recording.steps)
    assert metrics["vectors"].all()
    np.testing.assert_array_equal(metrics["train_twice"], 2 * metrics["train_loss"])
    assert same(state(run), state(alone))
    assert same(state(run, 20), state(alone, 20))
    assert len({run.folder, alone.folder, train(probe=Look(2.0), keep=[20]).folder}) == 3
    assert run.recording.provenance["probe"] == "Look(scale=1.0)"


KILLED = """
import sys, specdyn as sd
task = sd.tasks.modular_addition("smoke", steps=400, every=20, warmup=300, weight_decay=float(sys.argv[1]))
branch = {
    "start": sd.training.Checkpoint.load(sys.argv[2]),
    "constraint": sd.interventions.HoldNorm(2.0),
} if sys.argv[2] else {}
sd.train(task, 0, keep=[200], device="cpu", save_seconds=0.0, progress=False, **branch)
"""


def killed_until_finished(folder: Path, arguments: list[str], kills: int) -> None:
    """Start a run again and again, killing it each time after it has gone on from where it was."""
    moments = random.Random(0)
    resume = folder / "resume.pt"
    for _ in range(kills):
        before = resume.stat().st_mtime_ns if resume.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments])
        while not (resume.exists() and resume.stat().st_mtime_ns > before):
            assert process.poll() is None, "finished before it could be killed"
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "finished").exists()
    subprocess.run([sys.executable, "-c", KILLED, *arguments], check=True)


@pytest.mark.parametrize("branched", [False, True], ids=["a run", "a branch under a constraint"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(
    branched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sd.tasks.modular_addition("smoke", steps=400, every=20, warmup=300)
    options: dict[str, object] = {}
    trunk = ""
    if branched:
        trunk = str(train(task, keep=[100]).folder / "checkpoint-100.pt")
        options = {"start": sd.training.Checkpoint.load(trunk), "constraint": sd.interventions.HoldNorm(2.0)}
    task = replace(task, weight_decay=0.5)
    undisturbed = train(task, keep=[200], **options)
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "killed"))
    folder = tmp_path / "killed" / undisturbed.folder.name
    killed_until_finished(folder, ["0.5", trunk], kills=3)
    resumed = train(task, keep=[200], **options)
    assert resumed.folder == folder
    assert same(state(resumed), state(undisturbed))
    assert same(state(resumed, 200), state(undisturbed, 200))
    assert same_recording(resumed.recording, undisturbed.recording)
    for name in resumed.recording.matrices:
        agreement = resumed.recording.agreement(name)
        assert agreement[0] < 0.99 < agreement[-1]  # with vectors from before the kills
    whole = {"lock", "finished", "recording.npz", "checkpoint-200.pt", "checkpoint-400.pt"}
    assert {path.name for path in folder.iterdir()} == whole


@dataclass(frozen=True)
class Exploding(sd.tasks.ModularAddition):
    """Its loss is NaN from the eighth update on."""

    def batch(self, data: object, step: int, seed: int) -> tuple[object, int]:
        return data, step

    def loss(self, model: nn.Module, batch: tuple[object, int]) -> Tensor:
        data, step = batch
        loss = super().loss(model, (data.train, data.train_sums))
        return loss * torch.nan if step == 7 else loss


def test_nan_in_the_loss_stops_with_the_step_and_keeps_the_last_good_snapshot() -> None:
    task = Exploding(**vars(TASK))
    with pytest.raises(DivergedError, match=r"not finite at step 7; .*up to step 5") as caught:
        train(task)
    recording = caught.value.run.recording
    assert recording.steps.tolist() == [0, 5]
    assert np.isfinite(recording.singular_values["decoder.weight"]).all()
    with pytest.raises(ValueError, match=r"kept no checkpoint of step 60, only of \[\]: it diverged at step 7"):
        caught.value.run.model()
    with pytest.raises(DivergedError):  # and is not tried again
        train(task)


@dataclass(frozen=True)
class Infinite(sd.tasks.ModularAddition):
    """Its loss is finite throughout, its tenth gradient is not."""

    def batch(self, data: object, step: int, seed: int) -> tuple[object, int]:
        return data, step

    def loss(self, model: nn.Module, batch: tuple[object, int]) -> Tensor:
        data, step = batch
        loss = super().loss(model, (data.train, data.train_sums))
        return loss + (torch.sqrt(model.decoder.weight[0, 0] * 0) if step == 9 else 0)


def test_an_infinite_gradient_is_seen_before_anything_is_kept() -> None:
    with pytest.raises(DivergedError, match=r"not finite at step 10; .*up to step 5") as caught:
        train(Infinite(**vars(TASK)), keep=[10])
    assert caught.value.run.kept == []
    assert caught.value.run.recording.steps.tolist() == [0, 5]


@dataclass(frozen=True)
class Late(Exploding):
    """Counts its updates, so that it shows how many were made."""

    def loss(self, model: nn.Module, batch: tuple[object, int]) -> Tensor:
        made.append(batch[1])
        return super().loss(model, (batch[0], batch[1] - 150))


made: list[int] = []


def test_a_run_that_diverges_between_snapshots_is_stopped_soon_at_the_exact_step() -> None:
    made.clear()
    settings = {**vars(TASK), "steps": 1000, "every": 1000}
    with pytest.raises(DivergedError, match=r"not finite at step 157; .*up to step 0"):
        train(Late(**settings))
    assert made[-1] < 157 + loop.UNSEEN
    with pytest.raises(DivergedError, match="at step 157;"):
        train(Late(**settings), keep=[160])


def test_no_update_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy"):

        def waiting(
            tensor: Tensor, *arguments: object, name: str = name, plain: object = getattr(Tensor, name)
        ) -> object:
            asked.append(name)
            return plain(tensor, *arguments)

        monkeypatch.setattr(Tensor, name, waiting)
    counts = []
    for steps in (loop.UNSEEN, 4 * loop.UNSEEN):
        asked.clear()
        train(replace(TASK, steps=steps, every=4 * loop.UNSEEN))
        counts.append(len(asked))
    assert counts[0] > 0
    assert counts[1] - counts[0] < 100  # 300 more updates: three more looks, and one more snapshot


def test_what_a_run_depends_on_is_in_its_name() -> None:
    trunk = train(keep=[20])
    checkpoint = trunk.checkpoint(20)
    perturbed = replace(checkpoint, model={name: 2 * value for name, value in checkpoint.model.items()})
    held = sd.interventions.HoldNorm
    runs = [
        trunk,
        train(),
        train(seed=1),
        train(replace(TASK, weight_decay=0.3)),
        train(Longer(**vars(TASK))),
        train(threads=2),
        train(constraint=held(1.0)),
        train(constraint=held(2.0)),
        train(start=checkpoint),
        train(start=perturbed),
        train(start=train(seed=1, keep=[20]).checkpoint(20)),
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert not same(state(runs[8]), state(runs[9]))


@dataclass(frozen=True)
class Longer(sd.tasks.ModularAddition):
    """The same fields, another loss."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return 2 * super().loss(model, batch)


def test_a_task_whose_code_cannot_be_read_is_refused() -> None:
    space: dict[str, type] = {"Base": sd.tasks.ModularAddition, "__name__": "nowhere"}
    exec("class Hidden(Base):\n    pass", space)
    with pytest.raises(ValueError, match=r"cannot read the code of .*Hidden: define it in a file"):
        train(space["Hidden"](**vars(TASK)))


@dataclass(frozen=True)
class Flowing(sd.tasks.ModularAddition):
    """Leaves its pairs to the data flow."""

    pairs: str = "direct"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(2, 6), Skip(), nn.Linear(6, self.modulus))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pairs, sums = batch
        return nn.functional.cross_entropy(model(pairs.float()), sums)

    def metrics(self, model: nn.Module, data: object) -> dict[str, float]:
        return {}


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_a_task_may_leave_its_pairs_to_the_data_flow() -> None:
    direct = {"1.weight -> 2.inner.weight", "2.inner.weight -> 3.weight"}
    for pairs, expected in (("direct", direct), ("all", direct | {"1.weight +> 3.weight"})):
        recording = train(Flowing(**vars(TASK), pairs=pairs)).recording
        assert set(map(str, recording.alignments)) == expected
    with pytest.raises(ValueError, match=r"pairs='some' of modular-addition: give pairs of names"):
        train(Flowing(**vars(TASK), pairs="some"))


def test_steps_to_keep_may_come_from_a_generator() -> None:
    assert train(keep=(step for step in (5, 10))).kept == [5, 10, 60]


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    train().model()
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_and_absent_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu9': choose auto, cpu or cuda"):
        sd.train(TASK, 0, device="gpu9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' was asked for, but torch sees no CUDA"):
        sd.train(TASK, 0, device="cuda")


@pytest.mark.parametrize("seed", ["10", 1.5, None, True])
def test_a_seed_is_an_integer(seed: object) -> None:
    with pytest.raises(TypeError, match="is no integer"):
        sd.train(TASK, seed)


def test_steps_to_keep_must_exist() -> None:
    with pytest.raises(ValueError, match=r"cannot keep steps \[61\]: the run goes from 0 to 60"):
        train(keep=[0, 61])
    with pytest.raises(ValueError, match=r"kept no checkpoint of step 10, only of \[60\]: .*keep="):
        train().checkpoint(10)


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "file" / "runs"))
    with pytest.raises(PermissionError, match=r"cannot write runs to .*file.*SPECDYN_RUNS"):
        train()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("recording.npz", lambda run: run.recording),
        ("checkpoint-60.pt", lambda run: run.model()),
        ("finished", lambda run: run.diverged_at),
    ],
)
def test_a_corrupted_file_of_a_run_is_named(name: str, read: Callable[[Run], object]) -> None:
    run = train()
    path = run.folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        read(run)


def test_a_flipped_bit_in_a_weight_is_found() -> None:
    run = train()
    path = run.folder / "checkpoint-60.pt"
    weight = run.checkpoint(60).model["linear1.weight"].numpy().tobytes()
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(weight) + len(weight) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"checkpoint-60\.pt is damaged \(checksum of "):
        run.checkpoint(60)


@pytest.mark.parametrize("content", [b"nonsense", None], ids=["damaged", "foreign"])
def test_a_bad_resume_file_is_named(content: bytes | None) -> None:
    run = train()
    (run.folder / "finished").unlink()
    path = run.folder / "resume.pt"
    torch.save({"step": 3}, path)
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"resume\.pt is damaged .*delete its folder and run again"):
        train()


def test_a_checkpoint_with_objects_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-1.pt"
    torch.save({"step": subprocess.Popen}, path)
    with pytest.raises(ValueError, match=r"checkpoint-1\.pt is damaged"):
        sd.training.Checkpoint.load(path)


def test_the_name_follows_the_code_but_not_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(source: str) -> str:
        (tmp_path / "training").mkdir(exist_ok=True)
        (tmp_path / "training" / "loop.py").write_text(source)
        monkeypatch.setattr(loop, "__file__", str(tmp_path / "training" / "loop.py"))
        loop.science_hash.cache_clear()
        return loop.science_hash()

    plain = hashed("def f():\n    return 1\n")
    assert hashed('# why\ndef f():\n    """Words."""\n    return 1  # one\n') == plain
    assert hashed("def f():\n    return 2\n") != plain
    loop.science_hash.cache_clear()


def test_progress_goes_to_the_file_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_PROGRESS", str(tmp_path / "progress"))
    sd.train(TASK, 0, device="cpu")
    assert "modular-addition" in (tmp_path / "progress").read_text()


def test_where_runs_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECDYN_RUNS")
    book = tmp_path / "book" / "phenomena"
    book.mkdir(parents=True)
    monkeypatch.chdir(book)
    assert loop.runs_folder() == book / "_build" / "runs"
    (tmp_path / "_toc.yml").write_text("")
    assert loop.runs_folder() == tmp_path / "_build" / "runs"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda_is_a_run_of_its_own_and_learns() -> None:
    on_gpu = sd.train(TASK, 0, device="cuda", progress=False)
    assert on_gpu.folder != train().folder
    assert on_gpu.recording.metrics["train_loss"][-1] < on_gpu.recording.metrics["train_loss"][0]
    assert json.loads((on_gpu.folder / "finished").read_text())["diverged_at"] is None
