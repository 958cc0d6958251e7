"""Repair: means and spreads against those computed layer by layer by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdyn.interventions import combined, repaired
from specdyn.interventions.activations import activations
from specdyn.tasks import MLP, build, image_generation, noisy_labels

CPU = torch.device("cpu")
TASK = noisy_labels("smoke")


class Convolutions(nn.Module):
    """A small network without normalisation, convolutional both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 6, 2), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.up(F.relu(self.down(x)))).mean((2, 3)))


def given(model: Any, x: Tensor) -> list[Tensor]:
    """What every layer but the last gives, each as (examples and positions, features)."""
    found = []
    if isinstance(model, MLP):
        x = x.flatten(1)
        for layer in model.layers[:-1]:
            found.append(layer(x))
            x = found[-1].relu()
        return found
    for layer in (model.down, model.up):
        x = layer(x)
        found.append(x.permute(0, 2, 3, 1).flatten(0, 2))
        x = x.relu()
    return found


@pytest.mark.parametrize("make", [lambda: build(TASK, 0), Convolutions])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_every_layer_but_the_last_gets_the_means_and_spreads_between_the_ends(make: Any, share: float) -> None:
    torch.manual_seed(0)
    data, ends = TASK.data(0, CPU), [make(), make()]
    for end in ends:
        for parameter in end.parameters():
            parameter.data.mul_(2).add_(0.1 * torch.randn_like(parameter))
    shares = [1 - share, share]
    middle = combined(ends, shares)
    before = copy.deepcopy(middle.state_dict())
    better = repaired(TASK, middle, ends, shares, data, batches=3)
    x = torch.cat([TASK.batch(data, step, 0)[0] for step in range(3)])
    with torch.no_grad():
        outputs = [given(model, x) for model in (*ends, better, middle)]
    for one, two, now, was in zip(*outputs, strict=True):
        torch.testing.assert_close(now.mean(0), shares[0] * one.mean(0) + shares[1] * two.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(now.std(0), shares[0] * one.std(0) + shares[1] * two.std(0), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(now.std(0), was.std(0), rtol=0.05)
    last = list(before)[-2]
    assert torch.equal(better.state_dict()[last], before[last])
    assert all(torch.equal(before[name], tensor) for name, tensor in middle.state_dict().items())


def test_an_end_needs_no_repair_and_what_never_changes_is_only_shifted() -> None:
    data, ends = TASK.data(0, CPU), [build(TASK, seed) for seed in (0, 1)]
    same = repaired(TASK, ends[0], ends, [1.0, 0.0], data)
    for ours, theirs in zip(same.parameters(), ends[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    still = combined(ends, [0.5, 0.5])
    nn.init.zeros_(still.layers[0].weight)
    x = TASK.batch(data, 0, 0)[0].flatten(1)
    with torch.no_grad():
        means = [end.layers[0](x).mean(0) for end in ends]
        shifted = repaired(TASK, still, ends, [0.5, 0.5], data, batches=1).layers[0]
    assert torch.equal(shifted.weight, torch.zeros_like(shifted.weight))
    torch.testing.assert_close(shifted.bias.detach(), (means[0] + means[1]) / 2, rtol=1e-4, atol=1e-5)


def test_activations_leave_the_network_as_it_was_and_see_what_it_gives() -> None:
    data, model = TASK.data(0, CPU), build(TASK, 0).train()
    batch = TASK.batch(data, 0, 0)
    seen = activations(TASK, model, batch, {"layers.0": 32, "layers.1": 31})
    with torch.no_grad():
        assert torch.equal(seen["layers.0"], model.layers[0](batch[0].flatten(1)))
    assert list(seen) == ["layers.0"]
    model.layers[1].eval()
    activations(TASK, model, batch, {"layers.0": 32})
    assert [layer.training for layer in model.layers] == [True, False, True, True]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_norm_over_the_last_axis_is_seen_there() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = nn.RMSNorm(8), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.norm(x.view(-1, 8, 8)).flatten(1))

    batch = TASK.batch(TASK.data(0, CPU), 0, 0)
    model = Normed()
    seen = activations(TASK, model, batch, {"norm": 8})["norm"]
    torch.testing.assert_close(seen, F.rms_norm(batch[0].view(-1, 8, 8), (8,)).flatten(0, 1))


def test_layers_without_a_bias_and_other_architectures_are_refused() -> None:
    task = image_generation("smoke")
    ends = [build(task, seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"cannot repair conv1\.weight: its layer has no bias to shift"):
        repaired(task, ends[0], ends, [0.5, 0.5], task.data(0, CPU), spare=["time_embed.weight", "dense1.weight"])
    with pytest.raises(ValueError, match="networks differ"):
        repaired(TASK, build(TASK, 0), ends, [0.5, 0.5], TASK.data(0, CPU))
    for shares, batches in (([1.0], 1), ([0.5, 0.5], 0)):
        with pytest.raises(ValueError, match=f"2 ends, {len(shares)} shares, {batches} batches: at least 1"):
            repaired(task, ends[0], ends, shares, task.data(0, CPU), batches=batches)
