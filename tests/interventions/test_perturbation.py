"""Perturbation: as far away as asked for, at the norm there was, the same whenever it is drawn again."""

import copy
from math import sqrt

import pytest
import torch
from torch import nn

import specdyn as sd
from specdyn.interventions import perturbed, with_weights
from specdyn.tasks import build, image_classification, language_modeling
from specdyn.training import Checkpoint


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("strength", [0.1, 0.25, 0.5, 1.0, 2.5])
def test_strength_norm_and_cosine_are_those_of_the_paper_in_every_matrix_but_the_last(strength: float) -> None:
    model = build(image_classification("laptop"), 0)
    before = copy.deepcopy(model.state_dict())
    noisy = perturbed(model, strength, draws())
    pairs = list(zip(sd.matrices(model), sd.matrices(noisy), strict=True))
    for old, new in pairs[:-1]:
        assert new.view.norm().item() == pytest.approx(old.view.norm().item(), rel=1e-6)
        cosine = torch.cosine_similarity(old.view.flatten(), new.view.flatten(), dim=0).item()
        # The overlap of noise with the matrix has standard deviation 1 / sqrt(entries), and moves the cosine less.
        assert cosine == pytest.approx(1 / sqrt(1 + strength**2), abs=4 / sqrt(old.view.numel()))
    assert torch.equal(pairs[-1][0].view, pairs[-1][1].view)
    moved = {name for name, tensor in noisy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {old.name for old, _ in pairs[:-1]}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_is_the_sum_rescaled_with_noise_drawn_matrix_by_matrix() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Embedding(5, 4), nn.Linear(3, 2)).double()
    noisy, generator = perturbed(model, 0.7, draws(3)), draws(3)
    for old, new in list(zip(sd.matrices(model), sd.matrices(noisy), strict=True))[:-1]:
        noise = torch.randn(old.view.shape, generator=generator).double()
        expected = old.view + 0.7 * old.view.norm() * noise / noise.norm()
        torch.testing.assert_close(new.view, expected * old.view.norm() / expected.norm())


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    one, again, other = (perturbed(model, 1.0, draws(seed))[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


def test_no_noise_changes_no_bit_and_a_zero_matrix_stays_zero() -> None:
    model = build(language_modeling("smoke"), 0)
    assert all(
        torch.equal(one, two)
        for one, two in zip(model.parameters(), perturbed(model, 0.0, draws()).parameters(), strict=True)
    )
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    assert torch.equal(perturbed(layer, 2.5, draws(), spare=()).weight, torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type_and_its_norm(dtype: torch.dtype) -> None:
    layer = nn.Linear(64, 64).to(dtype)
    noisy = perturbed(layer, 1.0, draws(), spare=()).weight
    assert noisy.dtype == dtype
    assert noisy.double().norm().item() == pytest.approx(layer.weight.double().norm().item(), rel=1e-3)


def test_a_branch_starts_from_it_with_all_else_as_it_was() -> None:
    task = image_classification("smoke")
    model = build(task, 0)
    optimizer = task.optimizer(model)
    trunk = Checkpoint.of("trunk", 0, 6, model, optimizer, task.schedule(optimizer))
    branch = with_weights(trunk, perturbed(model, 0.5, draws()))
    assert branch.step == 6
    assert branch.digest != trunk.digest


@pytest.mark.parametrize("strength", [-0.1, float("inf"), float("nan")])
def test_a_strength_that_is_none_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength=.*: noise takes a number from 0 on"):
        perturbed(nn.Linear(3, 2), strength, draws())


def test_names_and_weights_that_have_no_place_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot spare"):
        perturbed(nn.Linear(3, 2), 1.0, draws(), spare=["wait"])
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="weight is computed by its layer"):
        perturbed(layer, 1.0, draws(), spare=())
