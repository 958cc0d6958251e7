"""The task against PyTorch's own transformer layer, hand-made splits and the paper's counts."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from specdyn.spectra import matrices
from specdyn.tasks import OneLayerTransformer, build, modular_addition
from specdyn.tasks.modular_addition import Pairs, split_pairs
from tests.tasks.reference import Reference

PAPER_PARAMETERS = 227_058


@pytest.mark.parametrize("layer_norm", [False, True])
def test_same_function_and_gradient_as_torch_transformer_layer(layer_norm: bool) -> None:
    torch.manual_seed(0)
    model = OneLayerTransformer(13, 32, 4, 64, layer_norm=layer_norm).double()
    reference = Reference(model, 4, 64)
    pairs = torch.randint(13, (50, 2))
    sums = pairs.sum(1) % 13

    ours, theirs = model(pairs), reference(pairs)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(ours, sums), parameters)
    expected = torch.autograd.grad(F.cross_entropy(theirs, sums), parameters)
    for mine, right in zip(gradients, expected, strict=True):
        assert torch.allclose(mine, right, rtol=0, atol=1e-12)
        assert right.abs().max() > 0


def test_paper_tier_has_the_papers_network_and_data() -> None:
    task = modular_addition("paper")
    model = build(task, 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == PAPER_PARAMETERS
    assert [matrix.shape for matrix in matrices(model)] == [
        (128, 114), (384, 128), (128, 128), (512, 128), (128, 512), (114, 128),
    ]  # fmt: skip
    data = task.data(0, torch.device("cpu"))
    assert (len(data.train), len(data.validation)) == (3_830, 8_939)
    (group,) = task.optimizer(model).param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.98), 1e-8, 1.0)


def test_split_covers_every_ordered_pair_once_and_finds_the_strict_ones() -> None:
    data = split_pairs(7, 0.5, seed=3)
    train = {tuple(pair) for pair in data.train.tolist()}
    validation = [tuple(pair) for pair in data.validation.tolist()]
    assert len(train) == 24
    assert not train & set(validation)
    assert train | set(validation) == {(a, b) for a in range(7) for b in range(7)}
    assert data.strict.tolist() == [(b, a) not in train for a, b in validation]
    assert data.validation_sums.tolist() == [(a + b) % 7 for a, b in validation]
    assert not torch.equal(data.train, split_pairs(7, 0.5, seed=4).train)


def test_strict_error_sees_through_a_network_that_only_knows_mirror_images() -> None:
    task = modular_addition("smoke", modulus=11, train_fraction=0.5)
    data = task.data(0, torch.device("cpu"))

    class Memoriser(nn.Module):
        """Knows the training pairs in either order, and says 0 else."""

        def forward(self, pairs: torch.Tensor) -> torch.Tensor:
            known = {frozenset(pair) for pair in data.train.tolist()}
            sums = [sum(pair) % 11 if frozenset(pair) in known else 11 for pair in pairs.tolist()]
            return F.one_hot(torch.tensor(sums), 12).float()

    metrics = task.metrics(Memoriser(), data)
    assert metrics["train_error"] == 0
    assert metrics["strict_error"] == 1
    assert metrics["validation_error"] == pytest.approx(float(data.strict.float().mean()))
    assert metrics["validation_error"] < 0.75


def test_untrained_network_is_at_chance() -> None:
    task = modular_addition("laptop")
    metrics = task.metrics(build(task, 5), task.data(5, torch.device("cpu")))
    assert metrics["train_loss"] == pytest.approx(math.log(54), rel=0.05)
    assert metrics["validation_error"] > 0.9


def test_initialisation_depends_on_the_seed_alone() -> None:
    task = modular_addition("smoke")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = build(task, 3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    two, other = build(task, 3).state_dict(), build(task, 4).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["decoder.weight"], other["decoder.weight"])


def test_init_scale_spares_the_gains_of_layer_norm() -> None:
    task = modular_addition("smoke", layer_norm=True, init_scale=1.0)
    whole, half = build(task, 0), build(replace(task, init_scale=0.5), 0)
    assert torch.equal(half.linear1.weight, whole.linear1.weight / 2)
    assert torch.equal(half.norm1.weight, whole.norm1.weight)


def test_warm_up_is_linear_and_then_constant() -> None:
    task = modular_addition("smoke", warmup=4, learning_rate=0.4)
    optimizer = task.optimizer(build(task, 0))
    schedule = task.schedule(optimizer)
    seen = []
    for _ in range(6):
        seen.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


@pytest.mark.parametrize("fraction", [0.0, 0.0001, 1.0])
def test_a_split_with_an_empty_side_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"train_fraction={fraction}"):
        split_pairs(7, fraction, seed=0)


def test_unknown_tier_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown tier 'huge': choose one of smoke, laptop, gpu, paper"):
        modular_addition("huge")


def test_data_moves_whole() -> None:
    data = modular_addition("smoke").data(0, torch.device("meta"))
    assert isinstance(data, Pairs)
    assert all(tensor.device.type == "meta" for tensor in vars(data).values())
