"""Interventions: norms held exactly, truncations against NumPy, the given model untouched."""

import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.interventions import HoldNorm, ShrinkNuclear, Truncation, reestimate, rescaled, truncations
from specdyn.tasks import ModularAddition, OneLayerTransformer, modular_addition


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDYN_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def model() -> OneLayerTransformer:
    torch.manual_seed(0)
    return OneLayerTransformer(7, 8, 2, 12)


def test_norms_are_held_whatever_happens_and_biases_are_free(model: OneLayerTransformer) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hold = HoldNorm(scale=2.5).bind(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    moved = {name: p.detach().clone() for name, p in model.named_parameters()}
    hold(1, 0.1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.norm().item() == pytest.approx(2.5 * before[name].norm().item(), rel=1e-5)
            cosine = (parameter * moved[name]).sum() / parameter.norm() / moved[name].norm()
            assert cosine.item() == pytest.approx(1, rel=1e-5)
        else:
            assert torch.equal(parameter, moved[name])


def test_a_matrix_that_became_zero_stays_finite() -> None:
    layer = nn.Linear(3, 2)
    hold = HoldNorm().bind(layer)
    nn.init.zeros_(layer.weight)
    hold(1, 0.1)
    assert torch.equal(layer.weight, torch.zeros(2, 3))


@pytest.mark.parametrize("keep", ["top", "bottom"])
def test_truncation_agrees_with_numpy_and_spares_the_last_matrix(model: OneLayerTransformer, keep: str) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (cut,) = truncations(model, [0.3], keep=keep)
    for name, parameter in cut.named_parameters():
        if parameter.ndim < 2 or name == "decoder.weight":
            assert torch.equal(parameter, before[name])
            continue
        u, s, vh = np.linalg.svd(before[name].double().numpy(), full_matrices=False)
        k = int(np.ceil(0.3 * len(s)))
        part = slice(0, k) if keep == "top" else slice(len(s) - k, None)
        np.testing.assert_allclose(parameter.detach(), (u[:, part] * s[part]) @ vh[part], atol=1e-6)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_keeping_everything_changes_nothing_and_nothing_everything(model: OneLayerTransformer) -> None:
    pairs = torch.tensor([[1, 2], [3, 4]])
    whole, none = truncations(model, [1.0, 0.0], spare=[])
    assert torch.allclose(whole(pairs), model(pairs), atol=1e-6)
    assert all(parameter.norm() == 0 for parameter in none.parameters() if parameter.ndim == 2)


def test_bad_requests_are_refused(model: OneLayerTransformer) -> None:
    with pytest.raises(ValueError, match=r"kept fraction 1\.5 is outside"):
        list(truncations(model, [1.5]))
    with pytest.raises(ValueError, match=r"cannot spare \['head'\]: the matrices are \['embedding\.weight'"):
        list(truncations(model, [0.5], spare=["head"]))


def test_transposed_convolutions_are_written_to_although_they_are_read_from_a_copy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 2), nn.ConvTranspose2d(6, 4, 2, groups=2))
    flat = model[0].weight.detach().transpose(0, 1).flatten(1).double().numpy()
    u, s, vh = np.linalg.svd(flat, full_matrices=False)
    (cut,) = truncations(model, [0.5], spare=[])
    np.testing.assert_allclose(
        cut[0].weight.detach().transpose(0, 1).flatten(1), (u[:, :3] * s[:3]) @ vh[:3], atol=1e-6
    )
    assert not torch.equal(cut[1].weight, model[1].weight)
    hold = HoldNorm().bind(model)
    before = [layer.weight.norm().item() for layer in model]
    with torch.no_grad():
        for layer in model:
            layer.weight.mul_(3)
    hold(1, 0.1)
    assert [layer.weight.norm().item() for layer in model] == pytest.approx(before)


def test_a_weight_that_is_computed_cannot_be_intervened_on() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"0.weight is computed by its layer"):
        list(truncations(model, [0.5]))
    with pytest.raises(ValueError, match=r"cannot hold the norm of 0.weight"):
        HoldNorm().bind(model)


class Small(nn.Module):
    """A convolutional network with an embedding, BatchNorm and GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 9)
        self.conv = nn.Conv2d(1, 7, 3)
        self.norm = nn.BatchNorm2d(7)
        self.group = nn.GroupNorm(1, 7)
        self.up = nn.ConvTranspose2d(7, 3, 2)
        self.head = nn.Linear(12, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        maps = self.group(self.norm(self.conv(self.embedding(words).view(-1, 1, 3, 3))).relu())
        return self.head(self.up(maps).flatten(1))


@dataclass(frozen=True)
class Words(ModularAddition):
    """Classifies five words by `Small`."""

    pairs: str = "direct"

    def model(self) -> nn.Module:
        return Small()

    def data(self, seed: int, device: torch.device) -> torch.Tensor:
        return torch.arange(5, device=device)

    def batch(self, data: torch.Tensor, step: int, seed: int) -> torch.Tensor:
        return data

    def inputs(self, data: torch.Tensor) -> list[torch.Tensor]:
        return [data[:3], data[2:]]

    def loss(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch), batch % 4)

    def metrics(self, model: nn.Module, data: torch.Tensor) -> dict[str, float]:
        assert not model.training
        return {"loss": float(self.loss(model, data)), "total": float(model(data).sum())}


WORDS = Words(**vars(modular_addition("smoke", steps=20, every=10)))


def trained() -> nn.Module:
    return sd.train(WORDS, 0, device="cpu", progress=False).model()


def test_the_probe_measures_what_truncations_and_new_statistics_give() -> None:
    model, data = trained(), torch.arange(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        found = Truncation()(WORDS, model, data, sd.measure(model))
        expected = {}
        for kind, spare in (("", None), ("but_embedding_", ["head.weight", "embedding.weight"])):
            (top,) = truncations(model, [0.5], spare=spare)
            bottom = copy.deepcopy(model)
            for rest, kept in zip(sd.matrices(bottom), sd.matrices(top), strict=True):
                if rest.name not in (spare or ["head.weight"]):
                    rest.write(rest.view - kept.view)
            for keep, part in (("top", top), ("bottom", bottom)):
                metrics = WORDS.metrics(reestimate(part, WORDS.inputs(data)), data)
                expected |= {f"{keep}_{kind}{name}": value for name, value in metrics.items()}
        whole = WORDS.metrics(reestimate(model, WORDS.inputs(data)), data)
        expected |= {f"whole_{name}": value for name, value in whole.items()}
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(map(repr, found.values()))) == len(found)  # every one of them is another network
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not model.training


def test_the_whole_is_the_network_and_the_rest_of_it_nothing_but_biases() -> None:
    model, data = trained(), torch.arange(5)
    with torch.no_grad():
        found = Truncation(1.0)(WORDS, model, data, sd.measure(model))
        whole = WORDS.metrics(reestimate(model, WORDS.inputs(data)), data)
        biases = model.head(model.up.bias.repeat_interleave(4)).sum()
    assert found["top_total"] == pytest.approx(whole["total"], abs=1e-5)
    assert found["bottom_total"] == pytest.approx(5 * float(biases), abs=1e-5)
    with pytest.raises(ValueError, match=r"kept fraction 1\.2 is outside \[0, 1\]"):
        Truncation(1.2)


def test_a_run_takes_each_decomposition_once_for_itself_and_its_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    module = sys.modules[sd.decompose.__module__]
    run = vars(module)["_run"]

    def counted(solvers: object, matrix: torch.Tensor, method: str, name: str) -> object:
        taken.append(name)
        return run(solvers, matrix, method, name)

    monkeypatch.setattr(module, "_run", counted)
    recording = sd.train(WORDS, 1, probe=Truncation(), device="cpu", progress=False).recording
    assert sorted(taken) == sorted(len(recording.steps) * list(recording.matrices))
    assert np.isfinite(recording.metrics["bottom_but_embedding_loss"]).all()
    assert recording.metrics["top_loss"][0] != recording.metrics["bottom_loss"][0]


def test_statistics_are_those_of_all_batches_on_a_copy() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4)).eval()
    batches = [torch.randn(6, 3), torch.randn(6, 3) + 1]
    fresh = reestimate(model, batches)
    outputs = torch.stack([model[0](batch) for batch in batches]).detach()
    torch.testing.assert_close(fresh[1].running_mean, outputs.mean((0, 1)))
    torch.testing.assert_close(fresh[1].running_var, outputs.var(1).mean(0))
    assert model[1].running_mean.tolist() == [0.0] * 4
    assert not fresh.training
    assert fresh[1].momentum == model[1].momentum


def test_rescaling_gives_the_norms_asked_for_and_batchnorm_undoes_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5, eps=1e-12), nn.ReLU(), nn.ConvTranspose2d(5, 3, 2))
    images = torch.randn(8, 2, 6, 6)
    model(images)
    changed = rescaled(model, {"0.weight": 7.0})
    assert changed[0].weight.norm().item() == pytest.approx(7, rel=1e-6)
    direction = changed[0].weight / changed[0].weight.norm() - model[0].weight / model[0].weight.norm()
    assert direction.abs().max() < 1e-6
    assert torch.equal(changed[3].weight, model[3].weight)
    model, fresh, stale = (reestimate(model, [images]).eval(), reestimate(changed, [images]).eval(), changed.eval())
    torch.testing.assert_close(fresh(images), model(images), rtol=1e-4, atol=1e-5)
    assert (stale(images) - model(images)).abs().max() > 0.1
    up = rescaled(model, {"3.weight": 2.0})
    torch.testing.assert_close(up[3].weight, model[3].weight * 2 / model[3].weight.norm())
    nn.init.zeros_(model[0].weight)
    assert rescaled(model, {"0.weight": 3.0})[0].weight.abs().sum() == 0
    with pytest.raises(ValueError, match=r"no matrix 'head'"):
        rescaled(model, {"head": 1.0})
    with pytest.raises(ValueError, match=r"from 0 on, but norms has \{'0\.weight': -1\.0\}"):
        rescaled(model, {"0.weight": -1.0})


def test_shrinking_minimises_distance_plus_nuclear_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 2), nn.ConvTranspose2d(5, 3, 2), nn.Linear(4, 3, bias=False)).double()
    before = copy.deepcopy(model)
    shrink = ShrinkNuclear(rate=4.0, every=2).bind(model)
    shrink(1, 0.05)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), before.parameters(), strict=True))
    shrink(2, 0.05)
    amount = 4.0 * 2 * 0.05
    for old, new in zip(sd.matrices(before), sd.matrices(model), strict=True):
        # optimality of min ||X - W||^2 / 2 + amount ||X||_*: the residual is a subgradient of the norm at X
        residual, x = (old.view - new.view).numpy() / amount, new.view.numpy()
        assert np.linalg.svd(residual, compute_uv=False)[0] < 1 + 1e-9
        assert (residual * x).sum() == pytest.approx(np.linalg.svd(x, compute_uv=False).sum(), rel=1e-9)
    assert torch.equal(model[0].bias, before[0].bias)
    small = sd.measure(model)["2.weight"]
    assert small.singular_values[-1] < 1e-12 < small.singular_values[0]


def test_a_diverging_run_under_shrinking_is_reported_as_one() -> None:
    wild = modular_addition("smoke", learning_rate=float("inf"), steps=20, every=20)
    with pytest.raises(sd.training.DivergedError, match="not finite at step 1;"):
        sd.train(wild, 0, constraint=ShrinkNuclear(0.1, every=2), device="cpu", progress=False)


@pytest.mark.parametrize("settings", [{"rate": -1.0}, {"rate": 1.0, "every": 0}])
def test_shrinking_by_nonsense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"ShrinkNuclear\(rate=.*: give a rate from 0 on"):
        ShrinkNuclear(**settings)
