"""Symmetries: found as they can be read off the networks, and worth what the outputs say."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import specdyn as sd
from specdyn.interventions import Symmetry, permuted, symmetries
from specdyn.interventions.symmetries import shuffled
from specdyn.tasks import MLP, Alphabet, BidirectionalLSTM, ConvNet, OneLayerTransformer, Transformer, UNet


class Residual(nn.Module):
    """Two convolutions beside a skip connection, then all pixels laid out in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.last = nn.ConvTranspose2d(6, 5, 3, padding=1), nn.Conv2d(5, 6, 1)
        self.out = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = x + self.last(self.inner(x).sigmoid())
        return self.out(x.flatten(1))


class Shown(nn.Module):
    """A network that also returns what it thinks in between."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.up(x).relu()
        return self.down(x), x


class ShownByName(Shown):
    """The same with a name for each."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.up(x).relu()
        return {"logits": self.down(x), "hidden": x}


class Tied(nn.Module):
    """A stream of features that words enter and leave by the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.out = nn.Linear(6, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.out(x + self.down(self.up(x).relu()))


def normals(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    draws = torch.Generator().manual_seed(3)
    return tuple(torch.randn(shape, generator=draws) for shape in shapes)


UNET = {"widths": (8, 16), "groups": (2, 4), "padding": 1, "time_width": 16, "frequency": 0.02}
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], list[tuple[int, set[str], set[str], tuple[int, ...]]]]]
CASES = {
    "perceptron": (
        lambda: MLP((7, 5, 4, 3)),
        normals((6, 7)),
        [(5, {"layers.0.weight"}, {"layers.1.weight"}, ()), (4, {"layers.1.weight"}, {"layers.2.weight"}, ())],
    ),
    "convolutions": (
        lambda: ConvNet((8, "pool", 6), channels=1, classes=3),
        normals((5, 1, 8, 8)),
        [
            (8, {"layers.0.conv.weight"}, {"layers.2.conv.weight"}, ()),
            (6, {"layers.2.conv.weight"}, {"fc.weight"}, ()),
        ],
    ),
    "residual": (
        Residual,
        normals((5, 2, 4, 4)),
        [
            (6, {"first.weight", "last.weight"}, {"inner.weight", "out.weight"}, ()),
            (5, {"inner.weight"}, {"last.weight"}, ()),
        ],
    ),
    "unet": (
        lambda: UNet(8, **UNET),
        (*normals((5, 1, 8, 8)), torch.arange(5)),
        [
            (16, {"time_embed.weight"}, {"dense1.weight", "dense2.weight", "dense3.weight"}, ()),
            (
                8,
                {"conv1.weight", "dense1.weight", "tconv2.weight", "dense3.weight"},
                {"conv2.weight", "tconv1.weight"},
                (2, 4),
            ),
            (16, {"conv2.weight", "dense2.weight"}, {"tconv2.weight"}, (4,)),
        ],
    ),
    "recurrent": (
        lambda: BidirectionalLSTM(4, 3, 1, Alphabet("abcd")),
        normals((2, 6, 4)),
        [
            (3, {f"lstm.weight_{kind}_l0" for kind in ("ih", "hh")}, {"lstm.weight_hh_l0", "linear.weight[:,0:3]"}, ()),
            (
                3,
                {f"lstm.weight_{kind}_l0_reverse" for kind in ("ih", "hh")},
                {"lstm.weight_hh_l0_reverse", "linear.weight[:,3:6]"},
                (),
            ),
        ],
    ),
    "transformer": (
        lambda: Transformer(11, 6, layers=2, width=8, heads=2, hidden=5),
        (torch.arange(12).view(2, 6) % 11,),
        [
            (5, {f"layers.{k}.linear1.weight"}, {f"layers.{k}.linear2.weight"}, ()) for k in (0, 1)
        ],  # of its residual stream there is none: positions are added to it
    ),
    "tied": (
        Tied,
        (torch.arange(9),),
        [
            (6, {"embed.weight", "down.weight"}, {"up.weight", "out.weight"}, ()),
            (8, {"up.weight"}, {"down.weight"}, ()),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_symmetries_are_those_that_can_be_read_off_a_network(name: str) -> None:
    make, example, expected = CASES[name]
    found = symmetries(make(), *example)
    assert [(s.size, set(s.rows), set(s.columns), s.blocks) for s in found] == expected


@pytest.mark.parametrize("name", CASES)
def test_any_order_they_allow_changes_the_weights_and_not_the_outputs(name: str) -> None:
    make, example, _ = CASES[name]
    torch.manual_seed(1)
    model = make().double().eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(torch.rand_like(tensor))
    before = copy.deepcopy(model.state_dict())
    draws = torch.Generator().manual_seed(4)
    turned = permuted(model, {s: shuffled(s, draws) for s in symmetries(model, *example)})
    inputs = [x.double() if x.is_floating_point() else x for x in example]
    with torch.no_grad():
        torch.testing.assert_close(turned(*inputs), model(*inputs))
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    moved = {key for key, tensor in turned.state_dict().items() if not torch.equal(tensor, before[key])}
    for symmetry in symmetries(model, *example):
        assert {name.partition("[")[0] for name in (*symmetry.rows, *symmetry.columns)} | set(symmetry.vectors) <= moved


def test_a_permuted_perceptron_is_what_permutation_matrices_make_of_it() -> None:
    model = MLP((7, 5, 4, 3))
    first, second = symmetries(model, *normals((6, 7)))
    turned = permuted(model, {first: torch.tensor([4, 2, 0, 1, 3]), second: torch.tensor([1, 3, 2, 0])})
    P, Q = np.eye(5)[[4, 2, 0, 1, 3]], np.eye(4)[[1, 3, 2, 0]]
    old = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.layers]
    (W1, b1), (W2, b2), (W3, b3) = old
    expected = [(P @ W1, P @ b1), (Q @ W2 @ P.T, Q @ b2), (W3 @ Q.T, b3)]
    for layer, (weight, bias) in zip(turned.layers, expected, strict=True):
        np.testing.assert_allclose(layer.weight.detach(), weight, rtol=1e-6)
        np.testing.assert_allclose(layer.bias.detach(), bias, rtol=1e-6)


def test_a_tied_weight_is_reordered_once() -> None:
    model, order = Tied(), torch.tensor([1, 2, 0, 5, 3, 4])  # three times is as it was, and twice is not
    turned = permuted(model, {symmetries(model, torch.arange(9))[0]: order})
    assert turned.out.weight is turned.embed.weight
    assert torch.equal(turned.embed.weight, model.embed.weight[:, order])
    assert torch.equal(turned.down.weight, model.down.weight[order])
    assert torch.equal(turned.up.weight, model.up.weight[:, order])


def test_neither_one_slope_for_all_features_nor_a_layers_name_hides_a_symmetry() -> None:
    (found,) = symmetries(nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 2)), *normals((5, 3)))
    assert found.vectors == ("0.bias",)
    (found,) = symmetries(nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), *normals((5, 3)))
    assert found.vectors == ("0.bias", "1.weight")
    named = nn.Sequential()
    named.add_module("weights", nn.Linear(3, 4))
    named.add_module("out", nn.Linear(4, 2))
    (found,) = symmetries(named, *normals((5, 3)))
    assert found.vectors == ("weights.bias",)


def test_all_that_batch_norm_remembers_moves_with_its_features() -> None:
    found = symmetries(ConvNet((8, "pool", 6), channels=1, classes=3), *normals((5, 1, 8, 8)))
    names = [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    assert found[0].vectors == tuple(f"layers.0.{name}" for name in ("conv.bias", *names))


def test_an_order_that_breaks_the_blocks_of_group_norm_changes_the_outputs() -> None:
    torch.manual_seed(0)
    model, example = UNet(8, **UNET).double().eval(), (*normals((5, 1, 8, 8)), torch.arange(5))
    last = symmetries(model, *example)[-1]
    crossed = torch.arange(16)
    crossed[[0, 4]] = torch.tensor([4, 0])  # the first features of two blocks
    with torch.no_grad():
        before, after = (
            network(example[0].double(), example[1]) for network in (model, permuted(model, {last: crossed}))
        )
    assert not torch.allclose(before, after)


@pytest.mark.parametrize(
    ("network", "example"),
    [
        (Shown(), normals((4, 3))),
        (ShownByName(), normals((4, 3))),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten()), normals((2, 2, 8, 8))),
        (nn.Sequential(nn.Linear(3, 4), nn.Softmax(0), nn.LogSoftmax(1)), normals((2, 3))),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), weight_norm(nn.Linear(4, 2))), normals((2, 3))),
    ],
)
def test_what_is_shown_grouped_or_computed_has_no_symmetry(network: nn.Module, example: tuple[Tensor, ...]) -> None:
    assert symmetries(network, *example) == []


def test_outputs_by_which_nothing_can_be_told_are_refused() -> None:
    class Silent(Shown):
        def forward(self, x: Tensor) -> str:
            return str(self.down(self.up(x)).shape)

    with pytest.raises(ValueError, match="Silent gives no tensors for this example"):
        symmetries(Silent(), *normals((4, 3)), pairs=sd.declare(Silent(), "up -> down"))
    diverged = MLP((7, 5, 3))
    nn.init.constant_(diverged.layers[1].weight, float("nan"))
    with pytest.raises(ValueError, match="MLP gives values that are not finite for this example"):
        symmetries(diverged, *normals((6, 7)))


def test_weights_that_start_at_zero_hide_nothing() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)
            self.slope = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x) + self.slope)

    assert symmetries(Gated(), *normals((5, 3))) == []


def test_pairs_are_declared_where_a_network_cannot_be_traced() -> None:
    model, example = OneLayerTransformer(7, 8, 2, 12), torch.tensor([[1, 2], [3, 4], [5, 0]])
    with pytest.raises(ValueError, match="cannot be traced"):
        symmetries(model, example)
    declared = sd.declare(model, "linear1 -> linear2", "linear2 -> decoder", "embedding +> decoder")
    (found,) = symmetries(model, example, pairs=declared)
    assert found == Symmetry(12, ("linear1.weight",), ("linear2.weight",), ("linear1.bias",))


def test_an_order_that_is_none_and_a_foreign_symmetry_are_refused() -> None:
    model = MLP((7, 5, 3))
    (found,) = symmetries(model, *normals((6, 7)))
    for order in ([0, 1, 2, 3, 3], [0, 1, 2, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(ValueError, match=r"the order for layers.0.weight is \[.*\]: give each number below 5 once"):
            permuted(model, {found: torch.tensor(order)})
    with pytest.raises(ValueError, match=r"layers\.0\.weight has 6 places for 5 features"):
        permuted(MLP((7, 6, 3)), {found: torch.arange(5)})
    with pytest.raises(ValueError, match=r"no matrix 'layers\.0\.weight'"):
        permuted(nn.Linear(5, 5), {found: torch.arange(5)})
    with pytest.raises(ValueError, match=r"cannot reorder layers.0.weight\[0:2,:\]: name a whole matrix"):
        permuted(model, {Symmetry(2, (), ("layers.0.weight[0:2,:]",)): torch.arange(2)})
