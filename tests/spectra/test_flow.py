"""Which matrices feed which: against lists made by hand, and against what networks really compute."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from specdyn.spectra import Pair, Part, cut, declare, feeds, follow, heads, read_module
from specdyn.spectra.matrices import find

Feature = tuple[str, int]


def lines(model: nn.Module) -> set[str]:
    return {str(pair) for pair in feeds(model)}


def direct(model: nn.Module) -> set[str]:
    return {line for line in lines(model) if "+>" not in line}


class Net(nn.Module):
    """A network whose layers are given by name and whose ``forward`` is a function of itself."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class TwoInputs(Net):
    """The same with two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.function(self, x, y)


# What networks really compute: one output of one layer is changed, all other layers repeat what they gave
# before, and the features that change in the input of a layer are those it is fed.


class Replay:
    """Hooks that record what measured layers give and are given, and give it again with a change."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        self.given: dict[str, list[Tensor]] = {}
        self.taken: dict[str, list[Tensor]] = {}
        self.attention: list[Tensor] = []
        self.change: Feature | None = None
        self.calls: dict[str, int] = {}
        self.recording = True

    def run(self, x: Tensor) -> dict[str, list[Tensor]]:
        self.taken, self.calls = {name: [] for name in self.layers}, dict.fromkeys([*self.layers, "softmax"], 0)
        handles = [m.register_forward_hook(self._hook(name)) for name, m in self.layers.items()]
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "softmax", self._softmax)
            self.model(x)
        for handle in handles:
            handle.remove()
        return self.taken

    def _hook(self, name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.taken[name].append(inputs[0].clone())
            if self.recording:
                self.given.setdefault(name, []).append(output.clone())
                return output
            output = self.given[name][self.calls[name]].clone()
            self.calls[name] += 1
            if self.change and self.change[0] == name:
                changed = output.select(1 if isinstance(module, nn.Conv2d) else -1, self.change[1])
                changed += 1 + torch.rand(changed.shape, generator=torch.Generator().manual_seed(0))
            return output

        return hook

    def _softmax(self, scores: Tensor, dim: int) -> Tensor:
        if self.recording:
            self.attention.append(scores.softmax(dim))
        self.calls["softmax"] += 1
        return self.attention[self.calls["softmax"] - 1]


def truth(model: nn.Module, x: Tensor) -> set[tuple[Feature, Feature]]:
    """Return which feature of which layer arrives in which column of which other, found by trying."""
    model = model.double().eval()
    replay = Replay(model)
    before = {name: [t.clone() for t in taken] for name, taken in replay.run(x.double()).items()}
    replay.recording = False
    found = set()
    for name, outputs in replay.given.items():
        convolution = isinstance(replay.layers[name], nn.Conv2d)
        for feature in range(outputs[0].shape[1 if convolution else -1]):
            replay.change = (name, feature)
            for other, taken in replay.run(x.double()).items():
                axis = 1 if isinstance(replay.layers[other], nn.Conv2d) else -1
                for was, now in zip(before[other], taken, strict=True):
                    changed = (was != now).movedim(axis, 0).flatten(1).any(1)
                    found |= {((name, feature), (other, int(column))) for column in changed.nonzero()}
    return found


def claimed(model: nn.Module) -> set[tuple[Feature, Feature]]:
    """Return the same as `feeds` says it, feature by feature."""
    found = set()
    for previous, following, arrow in feeds(model):
        if arrow != "~":
            (layer, rows), (reader, columns) = _numbers(model, previous, 0), _numbers(model, following, 1)
            each = len(columns) // len(rows)
            found |= {((layer, rows[at // each]), (reader, column)) for at, column in enumerate(columns)}
    return found


def _numbers(model: nn.Module, name: str, axis: int) -> tuple[str, list[int]]:
    """Return the layer of a matrix and the numbers of its rows or of the features that its columns read."""
    path, _, inside = name.rstrip("]").partition("[")
    module = model.get_submodule(path.removesuffix(".weight"))
    low, _, high = inside.split(",")[axis].partition(":") if inside else ("", "", "")
    count = [
        getattr(module, "out_features", getattr(module, "out_channels", 0)),
        getattr(module, "in_features", getattr(module, "in_channels", 0)),
    ][axis]
    return path.removesuffix(".weight"), list(range(int(low or 0), int(high or count)))


def linears(**sizes: tuple[int, int]) -> dict[str, nn.Module]:
    return {name: nn.Linear(*size) for name, size in sizes.items()}


def split_heads(x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def attention_apart(net: Any, x: Tensor) -> Tensor:
    q, k, v = (split_heads(layer(x), 2) for layer in (net.q, net.k, net.v))
    mixed = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), dim=-1) @ v
    batch, _, length, _ = mixed.shape
    x = x + net.out(mixed.transpose(1, 2).contiguous().view(batch, length, 8))
    return x + net.down(F.silu(net.up(x)) * net.gate(x))


def attention_fused(net: Any, x: Tensor) -> Tensor:
    x = net.embed(x)
    batch, length, width = x.shape
    q, k, v = net.qkv(x).chunk(3, dim=-1)
    q, k, v = split_heads(q, 2), split_heads(k, 2), split_heads(v, 2)
    mixed = torch.einsum("bhij,bhjd->bhid", torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k), dim=-1), v)
    return net.head(x + net.out(mixed.transpose(1, 2).reshape(batch, length, width)))


def vision_transformer(net: Any, x: Tensor) -> Tensor:
    x = net.patch(x).flatten(2).transpose(1, 2)
    batch, length, width = x.shape
    x = torch.cat([torch.zeros(batch, 1, width), x], dim=1)
    q, k, v = net.qkv(x).reshape(batch, length + 1, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    x = x + net.out((torch.softmax(q @ k.mT, dim=-1) @ v).transpose(1, 2).flatten(2))
    return net.head(x.mean(dim=1))


def residual_with_downsample(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    out = net.b(net.a(x).relu())
    out += net.down(x)
    out = F.relu(out)
    return net.head((out + net.d(net.c(out).relu())).mean((2, 3)))


def dense(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    for layer in (net.a, net.b):
        x = torch.cat([x, layer(x.relu())], 1)
    return net.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def squeeze_excite(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    batch, channels, _, _ = x.size()
    scale = net.up(F.relu(net.down(x.mean(dim=(2, 3))))).sigmoid().view(batch, channels, 1, 1)
    return net.head(x * scale)


def convolution_to_linear(net: Any, x: Tensor) -> Tensor:
    x = F.avg_pool2d(F.relu(net.a(x)), 2)
    return net.c(torch.relu(net.b(x.view(x.size(0), -1))))


def input_beside_features(net: Any, x: Tensor) -> Tensor:
    first = net.a(x)
    return net.c(torch.cat([net.b(first.tanh()), x, first], dim=-1))


def channels_last(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    y = net.down(F.gelu(net.up(x.permute(0, 2, 3, 1))))
    return net.head(x + y.permute(0, 3, 1, 2))


def slices(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    y = net.b(x[..., :4]) + x[..., 2:6]
    left, right = torch.split(net.c(y), [2, 6], dim=-1)
    return net.e(F.glu(torch.cat((right, left), -1), dim=-1)) + net.d(x[:, :, None, 3:].squeeze(2))


def reused(net: Any, x: Tensor) -> Tensor:
    for _ in range(3):
        x = torch.tanh(net.a(x)) + x
    return net.head(x)


def experts(net: Any, x: Tensor) -> Tensor:
    x = net.embed(x)
    shares = torch.softmax(net.gate(x.mean(dim=1)), dim=-1)
    given = torch.stack([expert(x.amax(1)) for expert in (net.first, net.second)], dim=1)
    weights = torch.softmax(net.score(x), dim=1)
    pooled = torch.bmm(weights.transpose(1, 2), x).squeeze(1)
    return net.out(torch.einsum("be,bed->bd", shares, given)) + net.last(pooled) + net.last((weights * x).sum(1))


def rotated(net: Any, x: Tensor) -> Tensor:
    x = net.embed(x)
    for _ in range(2):
        angles = torch.arange(x.shape[1])[:, None] * torch.ones(4)
        x = x + net.mix(x * angles.cos() + torch.zeros_like(x) * angles.sin())
    return net.out(net.norm(x))


def conv(*sizes: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **options)


TRIED = {
    "attention with projections apart": (
        attention_apart,
        linears(q=(8, 8), k=(8, 8), v=(8, 8), out=(8, 8), up=(8, 12), gate=(8, 12), down=(12, 8)),
        (2, 3, 8),
    ),
    "attention with a fused projection": (
        attention_fused,
        linears(embed=(5, 8), qkv=(8, 24), out=(8, 8), head=(8, 3)),
        (2, 3, 5),
    ),
    "vision transformer": (
        vision_transformer,
        {"patch": conv(3, 8, 2, stride=2), **linears(qkv=(8, 24), out=(8, 8), head=(8, 3))},
        (2, 3, 4, 4),
    ),
    "residual block with downsampling": (
        residual_with_downsample,
        {
            "stem": conv(1, 2, 1),
            "a": conv(2, 4, 3, padding=1, stride=2),
            "b": conv(4, 4, 3, padding=1),
            "down": conv(2, 4, 1, stride=2),
            "c": conv(4, 3, 1),
            "d": conv(3, 4, 1),
            "head": nn.Linear(4, 2),
        },
        (2, 1, 4, 4),
    ),
    "dense block": (
        dense,
        {"stem": conv(1, 3, 1), "a": conv(3, 2, 1), "b": conv(5, 2, 1), "head": nn.Linear(7, 2)},
        (2, 1, 3, 3),
    ),
    "squeeze and excite": (
        squeeze_excite,
        {"stem": conv(1, 6, 1), "head": conv(6, 2, 1), **linears(down=(6, 2), up=(2, 6))},
        (2, 1, 3, 3),
    ),
    "convolution, flattened, linear": (
        convolution_to_linear,
        {"a": conv(1, 3, 1), **linears(b=(12, 5), c=(5, 2))},
        (2, 1, 4, 4),
    ),
    "the input beside features": (input_beside_features, linears(a=(3, 4), b=(4, 5), c=(12, 2)), (2, 3)),
    "channels last": (
        channels_last,
        {"stem": conv(1, 4, 1), "head": conv(4, 2, 1), **linears(up=(4, 6), down=(6, 4))},
        (2, 1, 3, 3),
    ),
    "slices": (slices, linears(a=(3, 8), b=(4, 4), c=(4, 8), d=(5, 2), e=(4, 2)), (3, 8, 3)),
    "experts and attention pooling": (
        experts,
        linears(embed=(2, 4), gate=(4, 2), first=(4, 3), second=(4, 3), score=(4, 1), out=(3, 2), last=(4, 2)),
        (2, 3, 2),
    ),
    "sizes and positions": (
        rotated,
        {**linears(embed=(2, 4), mix=(4, 4), out=(4, 2)), "norm": nn.Identity()},
        (2, 3, 2),
    ),
    "a layer used again": (reused, linears(a=(4, 4), head=(4, 2)), (2, 4)),
}


@pytest.mark.parametrize("name", TRIED)
def test_features_arrive_where_they_are_said_to_and_nowhere_else(name: str) -> None:
    torch.manual_seed(0)
    function, layers, shape = TRIED[name]
    model = Net(function, **layers)
    found = truth(model, torch.randn(shape))
    assert len(found) > 5
    assert claimed(model) == found


# Programs drawn at random: each step makes a tensor of those before, and at the end each is read by a layer.

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=8)


class Program(nn.Module):
    """A network that carries out steps on tensors of shape (2, 3, 4) or (2, 3, 8)."""

    def __init__(self, steps: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.steps = steps
        widths = [4]
        self.layers, self.readers = nn.ModuleDict(), nn.ModuleDict()
        for at, (step, first, second) in enumerate(steps):
            width, other = widths[first % len(widths)], widths[second % len(widths)]
            made = self._width(step, width, other, second)
            if step in (0, 1):
                self.layers[str(at)] = nn.Linear(width, made)
            widths.append(made)
        for at, width in enumerate(widths):
            self.readers[str(at)] = nn.Linear(width, 1)

    def _width(self, step: int, width: int, other: int, second: int) -> int:
        if step in (0, 1):
            return (4, 8)[second % 2]
        joined = {5: width + other if width == other == 4 else width, 6: 4}
        return joined.get(step, width)

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for at, (step, first, second) in enumerate(self.steps):
            one, other = first % len(values), second % len(values)
            values.append(self._step(at, step, values[one], values[other], self._same(one, other)))
        return [self.readers[str(at)](value) for at, value in enumerate(values)]

    def _same(self, one: int, other: int) -> int:
        widths = [self.readers[str(at)].in_features for at in (one, other)]
        return widths[0] if widths[0] == widths[1] else 0

    def _step(self, at: int, step: int, x: Tensor, y: Tensor, same: int) -> Tensor:
        if step in (0, 1):
            return self.layers[str(at)](x)
        if step == 2:
            return x + y if same else F.silu(x)
        if step == 3:
            return x * torch.sigmoid(y) if same else x - x.mean(1, keepdim=True)
        if step == 4:
            return split_heads(x, 2).transpose(1, 2).flatten(2)
        if step == 5:
            return torch.cat((y, x), dim=-1) if same == 4 else x.transpose(0, 1).transpose(1, 0)
        if step == 6:
            return x[..., -4:]
        if step == 7:
            return torch.stack((x, y), dim=1).sum(1) if same else x.unsqueeze(0).squeeze(0)
        if step == 8:
            return torch.cat(x.chunk(2, dim=-1)[::-1], dim=2)
        return x.flip(-2) + x if same else torch.roll(x, 1, dims=-2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(STEPS)
def test_random_programs_are_followed_feature_by_feature(steps: list[tuple[int, int, int]]) -> None:
    torch.manual_seed(0)
    model = Program(steps)
    found = truth(model, torch.randn(2, 3, 4))
    assert claimed(model) == found
    assert not [reason for reason in follow(model).unclear.values() if "not used" not in reason]


# The paper's networks, and the pairs it compares.


def vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 3
    for size in [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512]:
        new = [nn.Conv2d(width, size, 3, padding=1), nn.BatchNorm2d(size), nn.ReLU()] if size else [nn.AvgPool2d(2)]
        layers, width = layers + new, size or width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def test_each_layer_of_vgg_feeds_the_next() -> None:
    model = vgg16()
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    assert feeds(model) == [Pair(a, b) for a, b in pairwise(names)]
    assert len(feeds(model)) == 13


class UNet(nn.Module):
    """The paper's denoiser, narrower: time is added to every stage, and the way up adds the way down."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 8, 16, 32)
        self.register_buffer("frequencies", torch.randn(8))
        self.time_embed = nn.Linear(16, 16)
        for stage, (before, width) in enumerate(zip((1, *widths), widths, strict=False), 1):
            step = 1 if stage == 1 else 2
            extra = {"output_padding": 1} if stage in (2, 3) else {}
            self.add_module(f"conv{stage}", nn.Conv2d(before, width, 3, step, bias=False))
            self.add_module(f"tconv{stage}", nn.ConvTranspose2d(width, before, 3, step, bias=stage == 1, **extra))
        for number, width in enumerate((*widths, *widths[2::-1]), 1):
            self.add_module(f"dense{number}", nn.Linear(16, width))
            self.add_module(f"norm{number}", nn.GroupNorm(4, width))

    def stage(self, layer: str, number: int, x: Tensor, time: Tensor) -> Tensor:
        x = getattr(self, layer)(x) + getattr(self, f"dense{number}")(time)[..., None, None]
        x = getattr(self, f"norm{number}")(x)
        return x * torch.sigmoid(x)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        phase = t[:, None] * self.frequencies[None, :] * 2 * math.pi
        time = self.time_embed(torch.cat([phase.sin(), phase.cos()], dim=-1))
        time = time * torch.sigmoid(time)
        first = self.stage("conv1", 1, x, time)
        second = self.stage("conv2", 2, first, time)
        third = self.stage("conv3", 3, second, time)
        x = self.stage("conv4", 4, third, time)
        x = self.stage("tconv4", 5, x, time)
        x = self.stage("tconv3", 6, x + third, time)
        x = self.stage("tconv2", 7, x + second, time)
        return self.tconv1(x + first)


def test_the_unet_has_the_papers_pairs_and_names_its_skips() -> None:
    model = UNet()
    assert model(torch.zeros(2, 1, 28, 28), torch.rand(2)).shape == (2, 1, 28, 28)
    down = ["conv1 -> conv2 -> conv3 -> conv4 -> tconv4 -> tconv3 -> tconv2 -> tconv1"]
    time = ["dense1 -> conv2", "dense2 -> conv3", "dense3 -> conv4", "dense4 -> tconv4"]
    skips = [f"{kind}{stage} +> tconv{stage}" for kind in ("conv", "dense") for stage in (1, 2, 3)]
    paper = declare(model, *down, *time, *skips)
    assert len(paper) == 17
    found = feeds(model)
    assert set(paper) < set(found)
    more = {f"time_embed.weight -> dense{number}.weight" for number in range(1, 8)}
    more |= {"dense5.weight -> tconv3.weight", "dense6.weight -> tconv2.weight", "dense7.weight -> tconv1.weight"}
    assert {str(pair) for pair in set(found) - set(paper)} == more


def test_a_bidirectional_lstm_has_the_papers_pairs() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        zeros = torch.zeros(8, x.size(0), 6)
        return net.out(net.lstm(x, (zeros, zeros))[0])

    model = Net(forward, lstm=nn.LSTM(5, 6, 4, bidirectional=True, batch_first=True), out=nn.Linear(12, 3))
    paper = set()
    for way, columns in (("", "[:,0:6]"), ("_reverse", "[:,6:12]")):
        for layer in range(4):
            ih, hh = (f"lstm.weight_{side}_l{layer}{way}" for side in ("ih", "hh"))
            following = f"lstm.weight_ih_l{layer + 1}{way}" if layer < 3 else "out.weight"
            paper |= {f"{ih} -> {hh}"} if layer < 3 else set()
            paper |= {f"{ih} -> {following}{columns}", f"{hh} -> {following}{columns}"}
    assert len(paper) == 22
    assert paper < lines(model)
    crossed = "lstm.weight_hh_l0_reverse -> lstm.weight_ih_l1[:,6:12]"
    assert crossed in lines(model)
    assert not any("[:,0:6]" in line and "_reverse ->" in line for line in lines(model))


class Language(nn.Module):
    """A language model around torch's own encoder."""

    def __init__(self, layers: int, **options: Any) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(10, 8), nn.Linear(8, 10)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = nn.Transformer.generate_square_subsequent_mask(4)
        return self.decoder(self.encoder(self.embedding(words) * math.sqrt(8), mask=mask))


def expected_of_language(layers: int) -> set[str]:
    expected, before = set(), "embedding.weight"
    for index in range(layers):
        layer = f"encoder.layers.{index}"
        projection, out = f"{layer}.self_attn.in_proj_weight", f"{layer}.self_attn.out_proj.weight"
        expected |= {f"{before} -> {projection}", f"{projection}[q*] ~ {projection}[k*]", f"{projection}[v] -> {out}"}
        expected |= {f"{out} -> {layer}.linear1.weight", f"{layer}.linear1.weight -> {layer}.linear2.weight"}
        before = f"{layer}.linear2.weight"
    return expected | {f"{before} -> decoder.weight"}


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_of_twelve_layers_has_the_papers_61_pairs(norm_first: bool) -> None:
    model = Language(12, norm_first=norm_first)
    assert direct(model) == expected_of_language(12)
    assert len(direct(model)) == 61


def test_every_name_of_a_pair_is_one_that_can_be_found() -> None:
    for model in (UNet(), Language(1), nn.LSTM(3, 4, 2, bidirectional=True), Program([(0, 0, 1), (8, 1, 0)])):
        names = {name for pair in feeds(model) for name in pair[:2]}
        assert find(model, names).keys() == names


# Layers, one rule each.


def test_attention_reads_one_tensor_by_its_fused_projection_and_several_by_piece() -> None:
    def cross(net: Any, x: Tensor, y: Tensor) -> Tensor:
        a, b = net.a(x), net.b(y)
        return net.out(net.attention(a, b, b, need_weights=False)[0])

    attention = nn.MultiheadAttention(8, 2)
    layers = linears(a=(3, 8), b=(3, 8), out=(8, 2))
    assert lines(TwoInputs(cross, attention=attention, **layers)) == {
        "a.weight -> attention.in_proj_weight[q]",
        "b.weight -> attention.in_proj_weight[k]",
        "b.weight -> attention.in_proj_weight[v]",
        "attention.in_proj_weight[q*] ~ attention.in_proj_weight[k*]",
        "attention.in_proj_weight[v] -> attention.out_proj.weight",
        "attention.out_proj.weight -> out.weight",
    }
    assert lines(nn.MultiheadAttention(8, 2, kdim=4, vdim=6)) == {
        "q_proj_weight[q*] ~ k_proj_weight[k*]",
        "v_proj_weight -> out_proj.weight",
    }


def test_a_decoder_reads_its_memory() -> None:
    found = lines(nn.Transformer(8, 2, 1, 1, 16, batch_first=True))
    attention = "decoder.layers.0.multihead_attn.in_proj_weight"
    assert f"encoder.layers.0.linear2.weight -> {attention}[k]" in found
    assert f"encoder.layers.0.self_attn.out_proj.weight +> {attention}[v]" in found
    assert f"decoder.layers.0.self_attn.out_proj.weight -> {attention}[q]" in found


def test_recurrent_layers_feed_themselves_and_their_projection() -> None:
    assert lines(nn.LSTM(5, 6, 2, proj_size=3)) == {
        *(f"weight_{side}_l{layer} -> weight_hr_l{layer}" for side in ("ih", "hh") for layer in (0, 1)),
        *(f"weight_hr_l{layer} -> weight_hh_l{layer}" for layer in (0, 1)),
        "weight_hr_l0 -> weight_ih_l1",
    }
    assert lines(nn.GRU(5, 6)) == {"weight_ih_l0 -> weight_hh_l0", "weight_hh_l0 -> weight_hh_l0"}


def test_states_are_told_apart_by_direction() -> None:
    def forward(net: Any, x: Tensor, y: Tensor) -> Tensor:
        _, (h, c) = net.encoder(x)
        start = torch.cat((h[-2], h[-1]), 1).unsqueeze(0)
        output, _ = net.decoder(y, (start, torch.zeros_like(start)))
        return net.out(output[:, -1]), net.last(c[1])

    layers = {"encoder": nn.LSTM(3, 4, bidirectional=True), "decoder": nn.LSTM(2, 8)}
    found = lines(TwoInputs(forward, **layers, out=nn.Linear(8, 2), last=nn.Linear(4, 2)))
    assert "encoder.weight_ih_l0 -> decoder.weight_hh_l0[:,0:4]" in found
    assert "encoder.weight_hh_l0_reverse -> decoder.weight_hh_l0[:,4:8]" in found
    assert "decoder.weight_hh_l0 -> out.weight" in found
    assert {line for line in found if "last" in line} == {
        "encoder.weight_ih_l0_reverse -> last.weight",
        "encoder.weight_hh_l0_reverse -> last.weight",
    }


def test_a_cell_in_a_loop_feeds_itself() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        state = None
        for step in range(3):
            state = net.cell(x[:, step], state)
        return net.out(state[0])

    cell = nn.LSTMCell(3, 4)
    ih, hh = "cell.weight_ih", "cell.weight_hh"
    expected = {f"{ih} -> {hh}", f"{hh} -> {hh}", f"{ih} -> out.weight", f"{hh} -> out.weight"}
    assert lines(Net(forward, cell=cell, out=nn.Linear(4, 2))) == expected


def test_groups_are_not_compared_with_what_feeds_them_but_with_what_they_feed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    assert lines(model) == {"1.weight -> 2.weight"}
    assert "8 groups" in follow(model).unclear["1.weight"]


def test_a_convolution_of_sequences_reads_channels() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.conv(net.embed(x).transpose(1, 2)).transpose(1, 2).mean(1))

    layers = {"embed": nn.Embedding(9, 4), "conv": nn.Conv1d(4, 6, 3), "out": nn.Linear(6, 2)}
    assert lines(Net(forward, **layers)) == {"embed.weight -> conv.weight", "conv.weight -> out.weight"}


def test_parametrized_weights_go_by_the_name_they_are_used_by() -> None:
    from torch.nn.utils import parametrizations, spectral_norm

    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), spectral_norm(nn.Linear(4, 5)), nn.Linear(5, 2)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert lines(model) == {"0.weight -> 2.weight", "2.weight -> 3.weight"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_parameter_given_to_a_function_is_read_as_its_layer_reads_it() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return F.linear(net.a(x), net.b.weight, net.b.bias) @ net.c.weight.T

    expected = {"a.weight -> b.weight", "b.weight -> c.weight"}
    assert lines(Net(forward, **linears(a=(3, 4), b=(4, 5), c=(5, 2)))) == expected


def test_a_weight_used_from_its_outputs_to_its_inputs_is_no_next_layer() -> None:
    def autoencoder(net: Any, x: Tensor) -> Tensor:
        return net.c(torch.relu(net.a(x)) @ net.a.weight)

    flow = follow(Net(autoencoder, **linears(a=(4, 4), c=(4, 2))))
    assert flow.pairs == ()
    assert "from its outputs to its inputs" in flow.unclear["c.weight"]


def test_a_tied_weight_is_named_by_the_layer_that_uses_it() -> None:
    model = Net(lambda net, x: net.out(net.embed(x)), embed=nn.Embedding(9, 4), out=nn.Linear(4, 9, bias=False))
    model.out.weight = model.embed.weight
    assert feeds(model) == [Pair("embed.weight", "out.weight")]
    found = find(model, ["embed.weight", "out.weight"])
    assert found["embed.weight"].shape == (4, 9)
    assert found["out.weight"].shape == (9, 4)


class Heads(nn.Module):
    """Attention of linear layers, which is taught to be read by head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (split_heads(piece, 3) for piece in self.qkv(x).chunk(3, dim=2))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))


def test_queries_and_keys_meet_after_they_are_rotated() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        angles = torch.arange(length)[:, None] * torch.ones(4)
        q, k, v = (layer(x).view(batch, length, 2, 4).transpose(1, 2) for layer in (net.q, net.k, net.v))
        q, k = (y * angles.cos() + torch.cat((-y[..., 2:], y[..., :2]), -1) * angles.sin() for y in (q, k))
        return net.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))

    model = Net(forward, **linears(q=(8, 8), k=(8, 8), v=(8, 8), out=(8, 8)))
    assert lines(model) == {"q.weight[0:8:4,:] ~ k.weight[0:8:4,:]", "v.weight -> out.weight"}


def test_rows_go_by_the_names_they_were_given() -> None:
    model = nn.Sequential(nn.Linear(4, 6), Heads())
    assert direct(model) == {
        "0.weight -> 1.qkv.weight",
        "1.qkv.weight[0:6:2,:] ~ 1.qkv.weight[6:12:2,:]",
        "1.qkv.weight[12:18,:] -> 1.out.weight",
    }

    class Named(Heads):
        pass

    @read_module.register
    def _(module: Named) -> list[Part]:
        qkv = Part("qkv.weight", "attention input", module.qkv.weight, blocks=3, block=2)
        out = Part("out.weight", "attention output", module.out.weight)
        return [qkv, out, *cut(qkv, "qkv", "qkv"), *heads(qkv, "qkv", 3)]

    assert direct(nn.Sequential(nn.Linear(4, 6), Named())) == {
        "0.weight -> 1.qkv.weight",
        "1.qkv.weight[q*] ~ 1.qkv.weight[k*]",
        "1.qkv.weight[v] -> 1.out.weight",
    }


def test_a_layer_of_the_users_own_is_followed_once_it_is_known() -> None:
    class Turned(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(inputs, outputs))

        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x @ self.table
            return x @ -self.table

    @read_module.register
    def _(module: Turned) -> list[Part]:
        return [Part("table", "Turned", module.table.T)]

    model = nn.Sequential(nn.Linear(3, 4), Turned(4, 5), nn.Linear(5, 2))
    assert lines(model) == {"0.weight -> 1.table", "1.table -> 2.weight"}


# Where nothing is known, nothing is claimed, and it is said.


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda net, x: x @ net.mix, "not measured"),
        (lambda net, x: x.sort(-1)[0], "sort()"),
        (lambda net, x: x[..., [3, 2, 1, 0]], "indexed along the axis of features"),
        (lambda net, x: x.flip(-1), "flip()"),
        (lambda net, x: x.flip(1), "flip()"),
        (lambda net, x: x.roll(1, 1), "roll()"),
        (lambda net, x: x[:, torch.tensor([1, 0, 3, 2])], "indexed along the axis of features"),
        (lambda net, x: x.unflatten(-1, (2, 2)).transpose(-1, -2).flatten(-2), "mix"),
        (lambda net, x: F.avg_pool1d(x, 3, 1, 1), "avg_pool1d()"),
        (lambda net, x: torch.outer(x[0], x[1])[:, :4], "outer()"),
    ],
)
def test_there_is_no_pair_where_features_may_have_moved(between: Callable[..., Tensor], reason: str) -> None:
    model = Net(lambda net, x: net.b(between(net, net.a(x))), **linears(a=(4, 4), b=(4, 2)))
    model.mix = nn.Parameter(torch.eye(4))
    flow = follow(model)
    assert flow.pairs == ()
    assert reason in flow.unclear["b.weight"]


def test_an_axis_that_may_be_that_of_tokens_or_of_features_is_not_guessed() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.c(net.b(net.a(x).transpose(1, 2).transpose(1, 2)).flip(1))  # only the transposes need three axes

    flow = follow(Net(forward, **linears(a=(4, 4), b=(4, 4), c=(4, 2))))
    assert flow.pairs == (Pair("a.weight", "b.weight"),)
    assert "features or of tokens" in flow.unclear["c.weight"]


def test_what_is_known_stays_known_beside_what_is_lost() -> None:
    model = Net(lambda net, x: net.c(net.a(x) + net.b(x).flip(-1)), **linears(a=(4, 4), b=(4, 4), c=(4, 2)))
    flow = follow(model)
    assert flow.pairs == (Pair("a.weight", "c.weight"),)
    assert "flip()" in flow.unclear["c.weight"]


def test_pixels_before_channels_are_not_taken_for_channels() -> None:
    model = Net(lambda net, x: net.b(net.a(x).permute(0, 2, 3, 1).flatten(1)), a=conv(3, 4, 1), b=nn.Linear(16, 2))
    assert feeds(model) == []
    assert "mix" in follow(model).unclear["b.weight"]


def test_a_layer_that_is_not_used_is_named() -> None:
    model = Net(lambda net, x: net.a(x), **linears(a=(4, 4), b=(4, 2)))
    assert follow(model).unclear == {"b.weight": "is not used in forward()"}


def test_a_norm_keeps_the_outputs_of_all_that_meet_in_it_and_of_none_that_are_joined() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        met = net.norm(net.a(x) + net.b(x))
        return net.c(net.wide(torch.cat([met, net.d(x)], dim=-1)))

    layers = {**linears(a=(3, 4), b=(3, 4), d=(3, 2), c=(6, 2)), "norm": nn.LayerNorm(4), "wide": nn.LayerNorm(6)}
    model = Net(forward, **layers)
    assert follow(model).kept == {"norm": {"a.weight", "b.weight"}}
    assert follow(nn.DataParallel(model)).kept == {"module.norm": {"module.a.weight", "module.b.weight"}}


def test_states_of_both_directions_at_once_are_not_guessed_at() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.rnn(x)[1].transpose(0, 1).flatten(1))

    flow = follow(Net(forward, rnn=nn.GRU(3, 4, bidirectional=True), out=nn.Linear(8, 2)))
    assert not any("out" in pair.next for pair in flow.pairs)
    assert "several states" in flow.unclear["out.weight"]


# Models that cannot be traced.


def test_a_model_whose_path_hangs_on_values_is_refused_with_reason_and_cure() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        if x.mean() > 0:
            return net.a(x)
        return net.b(x)

    with pytest.raises(ValueError, match=r"Net cannot be traced.*control flow.*if x\.mean\(\) > 0.*declare") as error:
        feeds(Net(forward, **linears(a=(3, 4), b=(3, 4))))
    assert "test_flow.py" in str(error.value)


def test_a_scripted_model_is_refused_and_a_wrapped_one_looked_into() -> None:
    inner = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert feeds(nn.DataParallel(inner)) == [Pair("module.0.weight", "module.1.weight")]
    assert feeds(torch.optim.swa_utils.AveragedModel(inner)) == [Pair("module.0.weight", "module.1.weight")]
    assert feeds(torch.compile(inner)) == [Pair("_orig_mod.0.weight", "_orig_mod.1.weight")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(inner)
        with pytest.raises(ValueError, match=r"cannot be traced.*declare"):
            feeds(scripted)


def test_optional_inputs_and_what_is_behind_the_stars_do_not_hinder_tracing() -> None:
    @dataclass
    class Output:
        logits: Tensor
        loss: Tensor | None = None

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, states: Tensor, mask: Tensor | None = None, *args: Any, **kwargs: Any) -> tuple[Tensor]:
            return (self.down(self.up(states).relu()),)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(10, 4), Body(), nn.Linear(4, 3)

        def forward(self, input_ids: Any = None, mask: Any = None, labels: Any = None, **kwargs: Any) -> Output:
            if input_ids is None:
                raise ValueError("You have to specify input_ids")
            logits = self.head(self.body(self.embed(input_ids), mask, **kwargs)[0])
            return Output(logits, None if labels is None else F.cross_entropy(logits, labels))

    assert lines(Model()) == {
        "embed.weight -> body.up.weight",
        "body.up.weight -> body.down.weight",
        "body.down.weight -> head.weight",
    }


def test_assertions_defaults_and_masks_do_not_hinder_tracing() -> None:
    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
            self.register_buffer("mask", torch.ones(9, 9).tril())

        def forward(self, x: Tensor, scale: float = 2.0, targets: Tensor | None = None, mode: str = "train") -> Any:
            batch, length, width = x.size()
            assert length <= 9, f"{length} is too long"
            if width != 3 or not batch > 0:
                raise ValueError(f"{width} is not 3")
            x = self.mask[:length, :length] @ self.a(x) + torch.zeros(batch, length, 4, device=x.device)
            if targets is not None and mode == "train":
                return self.a(x)
            return self.b(x * math.sqrt(scale))

    assert lines(Checked()) == {"a.weight -> b.weight"}


def test_tracing_leaves_no_trace() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
            self.seen: list[Tensor] = []
            self.last = None
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.a(x)
            self.seen.append(self.last)
            self.count += 1
            return self.b(self.last + torch.randn(4))

    model = Keeping()
    called: list[Any] = []
    model.a.register_forward_hook(lambda *given: called.append(given))
    state = torch.random.get_rng_state()
    assert lines(model) == {"a.weight -> b.weight"}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (model.last, model.seen, called, model.count.item()) == (None, [], [], 0)
    assert model.training


# Declarations.


@pytest.fixture
def declared() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "embed": nn.Embedding(10, 8),
            "attn": nn.MultiheadAttention(8, 2),
            "mlp": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)),
            "lstm": nn.LSTM(8, 8),
            "conv": nn.Conv2d(3, 4, 3),
            "out": nn.Linear(16, 2),
            "norm": nn.LayerNorm(8),
        }
    )


def test_declared_lines_become_pairs(declared: nn.ModuleDict) -> None:
    queries_and_keys = "attn.in_proj_weight[q*] ~ attn.in_proj_weight[k*]"
    assert declare(declared, "embed -> attn -> mlp.0->mlp.2", "embed +> mlp.0.weight", queries_and_keys) == [
        Pair("embed.weight", "attn.in_proj_weight"),
        Pair("attn.out_proj.weight", "mlp.0.weight"),
        Pair("mlp.0.weight", "mlp.2.weight"),
        Pair("embed.weight", "mlp.0.weight", "+>"),
        Pair("attn.in_proj_weight[q*]", "attn.in_proj_weight[k*]", "~"),
    ]
    assert declare(declared, "conv -> out", "lstm.weight_ih_l0 -> out[:,8:16]") == [
        Pair("conv.weight", "out.weight"),
        Pair("lstm.weight_ih_l0", "out.weight[:,8:16]"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("embd.weight -> attn", r"no matrix 'embd\.weight'.*embed\.weight"),
        ("embed -> mlp", r"mlp has 2 matrices: name the one that is meant, of mlp\.0\.weight, mlp\.2\.weight"),
        ("lstm -> mlp.0", r"lstm has 2 matrices.*weight_ih_l0, lstm\.weight_hh_l0"),
        ("norm -> mlp.0", r"norm is a LayerNorm, in which nothing is measured"),
        ("mlp.0.bias -> mlp.2", r"mlp\.0\.bias is no matrix"),
        ("embed -> mlp.2", r"embed\.weight gives 8 features, but mlp\.2\.weight reads 16.*mlp\.2\.weight\[:,0:8\]"),
        ("mlp.0 -> mlp.0", r"mlp\.0\.weight gives 16 features, but mlp\.0\.weight reads 8"),
        ("mlp.0 ~ mlp.2", r"mlp\.0\.weight gives 16 features, but mlp\.2\.weight 8"),
        ("attn.in_proj_weight[q*] ~ mlp.2", r"a stack of 2 matrices, but mlp\.2\.weight is one matrix"),
        ("embed -> ", r"declares nothing: write 'a -> b'"),
        ("embed", r"declares nothing"),
        ("embed attn -> mlp.0", r"declares nothing"),
        ("embed -> attn -> embed -> attn", r"reads 10|declared twice"),
    ],
)
def test_wrong_declarations_are_refused_with_what_would_be_right(declared: nn.ModuleDict, line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declare(declared, line)


def test_lines_in_a_list_are_refused_with_the_way_to_give_them() -> None:
    with pytest.raises(TypeError, match=r"lines one by one, as in declare\(model, \*lines\)"):
        declare(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), ["0 -> 1"])  # type: ignore[arg-type]


def test_a_pair_is_declared_once(declared: nn.ModuleDict) -> None:
    with pytest.raises(ValueError, match=r"embed\.weight -> attn\.in_proj_weight is declared twice"):
        declare(declared, "embed -> attn", "embed.weight -> attn.in_proj_weight")


def test_what_is_found_can_be_declared() -> None:
    for model in (UNet(), Language(2), nn.LSTM(3, 4, 2, bidirectional=True), vgg16()):
        assert declare(model, *map(str, feeds(model))) == feeds(model)
