"""Interventions: norms held exactly, truncations against NumPy, the given model untouched."""

import numpy as np
import pytest
import torch
from torch import nn

from specdyn.interventions import HoldNorm, truncations
from specdyn.tasks import OneLayerTransformer


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
    hold()
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
    hold()
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
    hold()
    assert [layer.weight.norm().item() for layer in model] == pytest.approx(before)


def test_a_weight_that_is_computed_cannot_be_intervened_on() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"0.weight is computed by its layer"):
        list(truncations(model, [0.5]))
    with pytest.raises(ValueError, match=r"cannot hold the norm of 0.weight"):
        HoldNorm().bind(model)
