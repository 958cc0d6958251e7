"""Every view is proven by computing with it what the layer computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from specdyn.spectra import Part, cut, heads, matrices, read_module

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
KERNEL = (3, 2, 5)


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Compute in float64, from one seed."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def views(model: nn.Module, *split: str) -> dict[str, Tensor]:
    return {matrix.name: matrix.view for matrix in matrices(model, split=split)}


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_linear_and_bilinear_layers_multiply_by_their_views() -> None:
    x, y = torch.randn(3), torch.randn(4)
    linear, bilinear = nn.Linear(3, 2), nn.Bilinear(3, 4, 2)
    assert close(views(linear)["weight"] @ x + linear.bias, linear(x))
    assert close(views(bilinear)["weight"] @ torch.outer(x, y).flatten() + bilinear.bias, bilinear(x, y))


def test_embeddings_map_one_hot_words_to_vectors() -> None:
    words = torch.tensor([3, 0, 3])
    one_hot = nn.functional.one_hot(words, 5).double().T
    embedding, bag = nn.Embedding(5, 4), nn.EmbeddingBag(5, 4, mode="sum")
    assert close(views(embedding)["weight"] @ one_hot, embedding(words).T)
    assert close(views(bag)["weight"] @ one_hot.sum(1), bag(words[None])[0])


def groups_of(model: nn.Module, count: int) -> list[Tensor]:
    """Return one view for each group, or the whole if there is only one."""
    found = views(model, "groups")
    return [found["weight"]] if count == 1 else [found[f"weight[group{group}]"] for group in range(count)]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    kernel=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    transposed=st.booleans(),
)
def test_kernels_of_any_size_hold_every_entry_in_its_place(
    sizes: tuple[int, int, int], kernel: list[int], transposed: bool
) -> None:
    groups, inputs, outputs = sizes
    kind = (TRANSPOSED if transposed else CONVOLUTIONS)[len(kernel)]
    layer = kind(groups * inputs, groups * outputs, kernel, groups=groups)
    by_group = torch.stack(groups_of(layer, groups)).reshape(groups, outputs, inputs, *kernel)
    stored = layer.weight.detach().numpy()
    for (g, o, i, *place), entry in np.ndenumerate(by_group.numpy()):
        there = (g * inputs + i, o, *place) if transposed else (g * outputs + o, i, *place)
        assert stored[there] == entry


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_multiplies_patches_by_its_views(dim: int, groups: int) -> None:
    layer = CONVOLUTIONS[dim](4, 8, KERNEL[:dim], groups=groups, stride=2)
    patch = torch.randn(4, *KERNEL[:dim])
    parts = zip(groups_of(layer, groups), patch.chunk(groups), strict=True)
    ours = torch.cat([view @ channels.flatten() for view, channels in parts]) + layer.bias
    assert close(ours, layer(patch[None]).flatten())
    assert close(torch.cat(groups_of(layer, groups)), views(layer)["weight"])


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_transposed_convolution_spreads_one_pixel_by_its_views(dim: int, groups: int) -> None:
    layer = TRANSPOSED[dim](8, 4, KERNEL[:dim], groups=groups, stride=3)
    pixel = torch.randn(8)
    whole = matrices(layer)[0]
    places = whole.positions
    outputs = []
    for view, channels in zip(groups_of(layer, groups), pixel.chunk(groups), strict=True):
        outputs.append(torch.stack([view[:, place::places] @ channels for place in range(places)], 1))
    ours = torch.cat(outputs) + layer.bias[:, None]
    assert close(ours, layer(pixel.reshape(1, 8, *[1] * dim)).reshape(4, places))
    assert close(torch.cat(groups_of(layer, groups)), whole.view)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_centre_of_a_kernel_acts_on_every_pixel_alone(dim: int) -> None:
    layer = CONVOLUTIONS[dim](4, 3, (3, 5, 3)[:dim], padding="same", bias=False)
    (matrix,) = matrices(layer)
    kept = torch.zeros_like(matrix.view)
    kept[:, matrix.position :: matrix.positions] = matrix.view[:, matrix.position :: matrix.positions]
    centre = kept[:, matrix.position :: matrix.positions]
    matrix.write(kept)
    image = torch.randn(1, 4, *[6] * dim)
    assert close(torch.einsum("oi,bi...->bo...", centre, image), layer(image))


def test_the_centre_of_an_even_kernel_is_the_one_the_paper_takes() -> None:
    (matrix,) = matrices(nn.Conv2d(1, 1, (4, 2)))
    places = torch.arange(8).reshape(4, 2)
    assert (matrix.positions, matrix.position) == (8, int(places[4 // 2, 2 // 2]))


def test_convolutions_in_another_memory_order_are_read_and_written_alike() -> None:
    layer = nn.Conv2d(3, 4, 3)
    plain = views(layer)["weight"].clone()
    (matrix,) = matrices(layer.to(memory_format=torch.channels_last))
    assert close(matrix.view, plain)
    matrix.write(2 * plain)
    assert close(layer.weight.flatten(1), 2 * plain)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_transposed_convolution_is_written_where_it_is_read(groups: int) -> None:
    layer = nn.ConvTranspose2d(8, 4, (2, 3), groups=groups)
    values = torch.randn(matrices(layer)[0].shape)
    matrices(layer)[0].write(values)
    assert close(matrices(layer)[0].view, values)
    for matrix in matrices(layer, split="groups"):
        matrix.write(-matrix.view)
    assert close(matrices(layer)[0].view, -values)


def lstm_step(gates: dict[str, Tensor], h: Tensor, c: Tensor, project: Tensor | None) -> tuple[Tensor, Tensor]:
    c = gates["f"].sigmoid() * c + gates["i"].sigmoid() * gates["g"].tanh()
    h = gates["o"].sigmoid() * c.tanh()
    return (h if project is None else project @ h), c


def run_lstm(module: nn.LSTM, x: Tensor) -> Tensor:
    """Run a whole LSTM from its gates alone, forwards and backwards."""
    found = views(module, "gates")
    for layer in range(module.num_layers):
        sides = []
        for suffix in ("", "_reverse") if module.bidirectional else ("",):
            end = f"l{layer}{suffix}"
            bias = (getattr(module, f"bias_ih_{end}") + getattr(module, f"bias_hh_{end}")).chunk(4)
            h, c = torch.zeros(module.proj_size or module.hidden_size), torch.zeros(module.hidden_size)
            steps = []
            for word in reversed(x) if suffix else x:
                gates = {
                    gate: found[f"weight_ih_{end}[{gate}]"] @ word + found[f"weight_hh_{end}[{gate}]"] @ h + b
                    for gate, b in zip("ifgo", bias, strict=True)
                }
                h, c = lstm_step(gates, h, c, found.get(f"weight_hr_{end}"))
                steps.append(h)
            sides.append(torch.stack(steps[::-1] if suffix else steps))
        x = torch.cat(sides, 1)
    return x


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("proj", [0, 2])
def test_an_lstm_computes_with_its_gates(layers: int, both: bool, proj: int) -> None:
    module = nn.LSTM(3, 5, layers, bidirectional=both, proj_size=proj)
    x = torch.randn(4, 3)
    assert close(run_lstm(module, x), module(x)[0])
    assert len(matrices(module)) == layers * (1 + both) * (3 if proj else 2)


def gru_step(ih: dict[str, Tensor], hh: dict[str, Tensor], h: Tensor) -> Tensor:
    r, z = (ih["r"] + hh["r"]).sigmoid(), (ih["z"] + hh["z"]).sigmoid()
    return (1 - z) * (ih["n"] + r * hh["n"]).tanh() + z * h


def by_gate(found: dict[str, Tensor], name: str, bias: Tensor, x: Tensor) -> dict[str, Tensor]:
    return {g: found[f"{name}[{g}]"] @ x + b for g, b in zip("rzn", bias.chunk(3), strict=True)}


def test_a_gru_computes_with_its_gates_in_both_directions() -> None:
    module = nn.GRU(3, 5, bidirectional=True)
    found, x = views(module, "gates"), torch.randn(4, 3)
    out = module(x)[0]
    for suffix, words, theirs in (("", x, out[:, :5]), ("_reverse", x.flip(0), out[:, 5:].flip(0))):
        h = torch.zeros(5)
        for word, expected in zip(words, theirs, strict=True):
            ih = by_gate(found, f"weight_ih_l0{suffix}", getattr(module, f"bias_ih_l0{suffix}"), word)
            hh = by_gate(found, f"weight_hh_l0{suffix}", getattr(module, f"bias_hh_l0{suffix}"), h)
            h = gru_step(ih, hh, h)
            assert close(h, expected)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_plain_rnn_has_nothing_to_split(nonlinearity: str) -> None:
    module = nn.RNN(3, 5, nonlinearity=nonlinearity)
    x, h = torch.randn(3), torch.randn(5)
    found = views(module, "gates")
    ours = found["weight_ih_l0"] @ x + found["weight_hh_l0"] @ h + module.bias_ih_l0 + module.bias_hh_l0
    assert close(getattr(torch, nonlinearity)(ours), module(x[None], h[None])[0][0])
    assert {matrix.kind for matrix in matrices(module)} == {"RNN input", "RNN recurrent"}


def test_cells_are_read_like_layers() -> None:
    x, h, c = torch.randn(3), torch.randn(5), torch.randn(5)
    rnn, gru, lstm = nn.RNNCell(3, 5), nn.GRUCell(3, 5), nn.LSTMCell(3, 5)
    plain = views(rnn)
    assert close((plain["weight_ih"] @ x + plain["weight_hh"] @ h + rnn.bias_ih + rnn.bias_hh).tanh(), rnn(x, h))
    found = views(gru, "gates")
    ours = gru_step(by_gate(found, "weight_ih", gru.bias_ih, x), by_gate(found, "weight_hh", gru.bias_hh, h), h)
    assert close(ours, gru(x, h))
    found = views(lstm, "gates")
    gates = {
        gate: found[f"weight_ih[{gate}]"] @ x + found[f"weight_hh[{gate}]"] @ h + b
        for gate, b in zip("ifgo", (lstm.bias_ih + lstm.bias_hh).chunk(4), strict=True)
    }
    for mine, theirs in zip(lstm_step(gates, h, c, None), lstm(x, (h, c)), strict=True):
        assert close(mine, theirs)


@pytest.mark.parametrize(("module", "candidate"), [(nn.LSTM(3, 5), "g"), (nn.GRU(3, 5), "n")])
def test_the_block_that_is_compared_is_the_candidate(module: nn.Module, candidate: str) -> None:
    gates = views(module, "gates")
    for whole in matrices(module):
        block = whole.view.unflatten(0, (whole.blocks, -1))[whole.block]
        assert torch.equal(block, gates[f"{whole.name}[{candidate}]"])


@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 6}])
def test_attention_computes_with_its_heads(sizes: dict[str, int]) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True, **sizes)
    nn.init.normal_(attention.in_proj_bias)
    found = views(attention, "heads")
    name = "{}_proj_weight" if sizes else "in_proj_weight"
    inputs = torch.randn(5, 8), torch.randn(5, sizes.get("kdim", 8)), torch.randn(5, sizes.get("vdim", 8))
    bias = attention.in_proj_bias.reshape(3, 2, 4)
    total = attention.out_proj.bias.expand(5, 8).clone()
    for head in range(2):
        q, k, v = (
            x @ found[f"{name.format(letter)}[{letter}{head}]"].T + bias[i, head]
            for i, (letter, x) in enumerate(zip("qkv", inputs, strict=True))
        )
        total += torch.softmax(q @ k.T / 4**0.5, dim=-1) @ v @ found[f"out_proj.weight[o{head}]"].T
    assert close(total, attention(*(x[None] for x in inputs))[0][0])


def test_fused_attention_comes_apart_into_query_key_and_value() -> None:
    attention = nn.MultiheadAttention(8, 2)
    found, heads_of = views(attention, "qkv"), views(attention, "heads")
    assert list(found) == [*(f"in_proj_weight[{x}]" for x in "qkv"), "out_proj.weight"]
    for letter, block in zip("qkv", attention.in_proj_weight.chunk(3), strict=True):
        assert torch.equal(found[f"in_proj_weight[{letter}]"], block)
        assert torch.equal(torch.cat([heads_of[f"in_proj_weight[{letter}{h}]"] for h in range(2)]), block)
    (fused, _) = matrices(attention)
    assert torch.equal(fused.view.unflatten(0, (fused.blocks, -1))[fused.block], found["in_proj_weight[v]"])


class GroupedQueries(nn.Module):
    """Attention as many models have it: linear layers of its own, fewer keys than queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(8, 8), nn.Linear(8, 4)
        self.o_proj = nn.Linear(8, 8)


@pytest.fixture
def _taught() -> Iterator[None]:
    @read_module.register
    def _(module: GroupedQueries) -> list[Part]:
        found = []
        for letter, count in (("q", 4), ("k", 2), ("o", 4)):
            whole = Part(f"{letter}_proj.weight", "attention", getattr(module, f"{letter}_proj").weight)
            found += [whole, *heads(whole, letter, count)]
        return found

    yield
    read_module.register(GroupedQueries, read_module.dispatch(nn.Module))


@pytest.mark.usefixtures("_taught")
def test_separate_projections_are_read_by_head_once_told_how() -> None:
    model = nn.Sequential(GroupedQueries())
    found = views(model, "heads")
    attention = model[0]
    assert torch.equal(found["0.q_proj.weight[q3]"], attention.q_proj.weight[6:])
    assert torch.equal(found["0.k_proj.weight[k1]"], attention.k_proj.weight[2:])
    assert torch.equal(found["0.o_proj.weight[o1]"], attention.o_proj.weight[:, 2:4])
    assert len(found) == 10
    assert [m.kind for m in matrices(model)] == ["attention"] * 3


def test_pieces_must_be_of_equal_size() -> None:
    whole = Part("weight", "Linear", torch.ones(6, 4))
    with pytest.raises(ValueError, match=r"weight: 6 rows cannot be cut into 4 equal parts for 'gates'"):
        cut(whole, "gates", "ifgo")
    with pytest.raises(ValueError, match=r"weight: 4 columns cannot be cut into 3 equal parts for 'heads'"):
        heads(whole, "o", 3)


def test_a_layer_that_is_not_known_has_no_parts() -> None:
    assert read_module(nn.LayerNorm((3, 4))) == []
