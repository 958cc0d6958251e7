"""Which weights of a network are found, under which names, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from specdyn.spectra import Part, cut, describe, find, matrices, read, read_module
from tests.spectra.networks import Block


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block()


def reasons(model: nn.Module) -> dict[str, str]:
    return {row.name: row.reason for row in describe(model).left_out}


def names(model: nn.Module, **options: object) -> list[str]:
    return [matrix.name for matrix in matrices(model, **options)]


def test_matrices_come_in_parameter_order_with_their_names(block: Block) -> None:
    assert names(block) == [name for name, p in block.named_parameters() if p.ndim >= 2]
    shapes = [(8, 10), (24, 8), (8, 8), (32, 8), (8, 32), (10, 8)]
    assert [matrix.shape for matrix in matrices(block)] == shapes


def test_views_share_memory_with_the_parameters(block: Block) -> None:
    for matrix in matrices(block, split="heads"):
        storage = block.get_parameter(matrix.name.partition("[")[0]).untyped_storage()
        assert matrix.view.untyped_storage().data_ptr() == storage.data_ptr()
        assert not matrix.view.requires_grad
        assert matrix.stored is not None


def test_writing_to_a_piece_changes_that_piece_alone(block: Block) -> None:
    before = block.attention.in_proj_weight.detach().clone()
    find(block, ["attention.in_proj_weight[k1]"])["attention.in_proj_weight[k1]"].write(torch.zeros(4, 8))
    before[12:16] = 0
    assert torch.equal(block.attention.in_proj_weight, before)


def test_single_rows_and_columns_of_known_layers_count() -> None:
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1), nn.Conv2d(1, 1, 1))
    assert [m.shape for m in matrices(model)] == [(1, 4), (1, 1), (1, 1)]


# What is left out


def test_everything_left_out_has_a_reason(block: Block) -> None:
    block.gains, block.free = nn.LayerNorm((3, 4)), nn.Parameter(torch.ones(2, 2))
    block.pruned = prune.random_unstructured(nn.Linear(3, 3), "weight", 0.5)
    block.normed = parametrizations.weight_norm(nn.Conv1d(3, 3, 2))
    found = reasons(block)
    assert found["free"] == "Block is no known kind of layer (see specdyn.spectra.read_module)"
    assert found["gains.weight"] == "multiplied or added entry by entry, not a matrix"
    assert found["norm.weight"] == found["up.bias"] == "a vector, not a matrix"
    assert found["pruned.weight_orig"] == "pruned.weight is computed from it"
    assert set(dict(block.named_parameters())) <= set(found) | set(names(block))


def test_a_parameter_that_is_not_read_of_a_known_layer() -> None:
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    attention.positions = nn.Parameter(torch.ones(5, 8))
    assert reasons(attention)["bias_k"] == "a vector, not a matrix"
    assert reasons(attention)["positions"].startswith("not among what is read of MultiheadAttention")


def test_a_weight_that_is_a_buffer_is_said_to_be_one() -> None:
    layer = nn.Linear(3, 2)
    frozen = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", frozen)
    assert reasons(layer)["weight"] == "a buffer or an attribute, not a parameter"


def test_an_empty_layer_is_left_out_with_the_reason() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 2), nn.Linear(0, 3))
    assert reasons(model)["0.weight"] == reasons(model)["2.weight"] == "empty"
    assert names(model) == ["1.weight"]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool, torch.float8_e4m3fn])
def test_numbers_that_are_not_real_or_hardly_there_are_left_out_with_their_type(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(2, 2))
    model[0].weight = nn.Parameter(torch.ones(5, 3).to(dtype), requires_grad=dtype.is_complex)
    expected = f"{dtype}: only real floating-point weights of at least 16 bits are measured"
    assert reasons(model)["0.weight"] == expected
    assert names(model) == ["1.weight"]


def test_sparse_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse())
    assert reasons(model)["0.weight"] == "torch.sparse_coo: only dense weights are measured"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_quantized_layers_are_named_although_they_have_no_parameters() -> None:
    dynamic = pytest.importorskip("torch.ao.nn.quantized.dynamic", reason="this PyTorch has no quantized modules")
    model = nn.Sequential(dynamic.Linear(3, 4), dynamic.LSTM(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert {name: why for name, why in reasons(model).items() if "quantized" in why} == {
        "0.weight": "quantized; measure the model before it is converted",
        "1.weight": "quantized; measure the model before it is converted",
    }


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.LayerNorm(4), "LayerNorm has no matrix that can be measured; specdyn.describe"),
        (nn.Identity(), "Identity has no matrix"),
        (nn.LazyLinear(4), "weight is lazy and has no shape yet"),
        (nn.Sequential(nn.ReLU(), nn.LazyConv2d(4, 3)), "1.weight is lazy and has no shape yet"),
        (nn.Linear(3, 4, device="meta"), "weight is on the meta device"),
        (nn.Linear(3, 4, dtype=torch.complex64), "no matrix that can be measured"),
    ],
)
def test_models_without_matrices_are_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        matrices(model)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="this is of type OrderedDict; load it into its model"):
        matrices(nn.Linear(3, 2).state_dict())


# Ties


def test_tied_weights_are_measured_once_and_go_by_either_name(block: Block) -> None:
    block.decoder.weight = block.embedding.weight
    assert [m.name for m in matrices(block) if m.view.numel() == 80] == ["embedding.weight"]
    assert reasons(block)["decoder.weight"] == "the same tensor as embedding.weight"
    both = find(block, ["embedding.weight", "decoder.weight"])
    assert torch.equal(both["decoder.weight"].view, both["embedding.weight"].view.T)
    assert (both["decoder.weight"].kind, both["decoder.weight"].shape) == ("Linear", (10, 8))


def test_weights_tied_through_their_data_are_seen(block: Block) -> None:
    block.decoder.weight.data = block.embedding.weight.data
    assert reasons(block)["decoder.weight"] == "the same tensor as embedding.weight"


def test_a_layer_used_twice_is_measured_once() -> None:
    layer = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert names(model) == ["0.weight"]
    assert reasons(model) == {"2.weight": "the same tensor as 0.weight"}
    assert torch.equal(find(model, ["2.weight"])["2.weight"].view, layer.weight)


def test_a_parametrized_layer_used_twice_is_measured_once() -> None:
    layer = parametrizations.weight_norm(nn.Linear(3, 3, bias=False))
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert names(model) == ["0.weight"]
    assert reasons(model)["2.weight"] == "the same tensor as 0.weight"


def test_a_tied_weight_that_is_masked_on_one_side_is_two_matrices(block: Block) -> None:
    block.decoder.weight = block.embedding.weight
    prune.random_unstructured(block.decoder, "weight", 0.5)
    found = {matrix.name: matrix.view for matrix in matrices(block)}
    assert torch.equal(found["decoder.weight"], block.embedding.weight * block.decoder.weight_mask)
    assert torch.equal(found["embedding.weight"], block.embedding.weight.T)


def test_tied_weights_that_are_computed_alike_are_measured_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    mask = 1 - torch.eye(3).flip(0)
    for layer in model:
        prune.custom_from_mask(layer, "weight", mask)
    assert names(model) == ["0.weight"]
    assert reasons(model)["1.weight"] == "the same tensor as 0.weight"
    prune.custom_from_mask(model[1], "weight", torch.tensor([[0.0, 1, 1], [1, 1, 1], [1, 1, 1]]))
    assert names(model) == ["0.weight", "1.weight"]


# Weights that a layer computes


def _legacy(name: str) -> Callable[[nn.Module], nn.Module]:
    return getattr(nn.utils, name)


def _masked(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.5)


def _masked_twice(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(_masked(layer), "weight", 0.4)


def _normed_twice(layer: nn.Module) -> nn.Module:
    return parametrizations.spectral_norm(parametrizations.weight_norm(layer))


def _pruned_below(layer: nn.Module) -> nn.Module:
    parametrizations.spectral_norm(layer)
    prune.random_unstructured(layer.parametrizations.weight, "original", 0.5)
    return layer


COMPUTED = [
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    parametrizations.orthogonal,
    _legacy("weight_norm"),
    _legacy("spectral_norm"),
    _masked,
    _masked_twice,
    _normed_twice,
    _pruned_below,
]


def moved(make: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    """Return a network in training whose computed weight is out of date: one step, no forward pass since."""
    torch.manual_seed(0)
    model = nn.Sequential(make(nn.Linear(4, 4)), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    return model


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("make", COMPUTED)
def test_a_computed_weight_is_measured_once_as_the_layer_uses_it(make: Callable[[nn.Module], nn.Module]) -> None:
    model = moved(make)
    found = {matrix.name: matrix for matrix in matrices(model)}
    assert list(found) == ["0.weight", "1.weight"]
    sources = {f"0.{name}" for name, p in model[0].named_parameters() if p.ndim == 2}
    assert {name for name, why in reasons(model).items() if why == "0.weight is computed from it"} == sources
    used = model[0].eval()
    assert torch.allclose(found["0.weight"].view, used(torch.eye(4)).T - used.bias[:, None], atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("make", COMPUTED)
def test_reading_a_computed_weight_leaves_no_trace(make: Callable[[nn.Module], nn.Module]) -> None:
    model = moved(make).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stale = model[0].__dict__.get("weight")
    random = torch.get_rng_state()
    kinds = [type(module) for module in model.modules()]
    matrices(model)
    describe(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert model[0].__dict__.get("weight") is stale
    assert torch.equal(torch.get_rng_state(), random)
    assert [type(module) for module in model.modules()] == kinds


class Noisy(nn.Module):
    """A parametrization that counts its calls and draws noise, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return weight + 1e-3 * torch.randn_like(weight)


def test_not_even_a_noisy_parametrization_is_disturbed() -> None:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Noisy())
    calls, state = layer.parametrizations.weight[0].calls.clone(), torch.get_rng_state()
    matrices(layer)
    assert torch.equal(layer.parametrizations.weight[0].calls, calls)
    assert torch.equal(torch.get_rng_state(), state)


class LowRank(nn.Module):
    """An update of rank one with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.ones(1, 4))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.left @ self.right


def test_an_adapter_is_part_of_the_weight_it_adapts() -> None:
    layer = nn.Linear(4, 3)
    plain = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", LowRank())
    (matrix,) = matrices(layer)
    assert torch.allclose(matrix.view, plain + 1)
    assert reasons(layer)["parametrizations.weight.0.left"] == "weight is computed from it"


def test_computed_weights_of_larger_layers_come_apart_like_any() -> None:
    lstm, attention = nn.LSTM(3, 5), nn.MultiheadAttention(8, 2)
    prune.random_unstructured(lstm, "weight_hh_l0", 0.5)
    parametrizations.spectral_norm(attention, "in_proj_weight")
    parametrizations.orthogonal(attention.out_proj)
    model = nn.ModuleDict({"lstm": lstm, "attention": attention})
    found = {matrix.name: matrix for matrix in matrices(model, split=["gates", "heads"])}
    assert torch.equal(found["lstm.weight_hh_l0[g]"].view, lstm.weight_hh_l0[10:15])
    out = found["attention.out_proj.weight[o1]"]
    assert torch.allclose(out.view.T @ out.view, torch.eye(4), atol=1e-6)
    assert len(found) == 8 + 6 + 2
    with pytest.raises(ValueError, match=r"out_proj.weight\[o1\] is computed by its layer and cannot be written"):
        out.write(torch.zeros(8, 4))


# Splits


def test_splits_can_be_combined_and_pass_over_what_they_do_not_fit(block: Block) -> None:
    block.lstm, block.depthwise = nn.LSTM(8, 3), nn.Conv2d(4, 4, 3, groups=4)
    every = names(block, split=["qkv", "heads", "gates", "groups"])
    assert every[:4] == ["embedding.weight", *(f"attention.in_proj_weight[{x}]" for x in "qkv")]
    assert "up.weight" in every
    assert "depthwise.weight[group3]" in every
    assert names(block, split="gates")[-1] == "depthwise.weight"
    assert names(block, split=()) == names(block)
    with pytest.raises(ValueError, match=r"unknown split 'head': choose from \['gates', 'groups', 'heads', 'qkv'\]"):
        matrices(block, split=["head", "gates"])


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.arange(24.0).reshape(2, 3, 4))


@pytest.fixture
def _taught() -> Iterator[None]:
    @read_module.register
    def _(module: Mixer) -> list[Part]:
        whole = Part("kernel", "Mixer", module.kernel.flatten(1))
        return [whole, *cut(whole, "sides", ["left", "right"], columns=True)]

    yield
    read_module.register(Mixer, read_module.dispatch(nn.Module))


@pytest.mark.usefixtures("_taught")
def test_a_new_kind_of_layer_takes_one_function_and_brings_its_own_split() -> None:
    model = nn.Sequential(Mixer(), nn.Linear(2, 2))
    first = matrices(model)[0]
    assert (first.name, first.kind, first.shape) == ("0.kernel", "Mixer", (2, 12))
    left, right, _ = matrices(model, split="sides")
    assert torch.equal(torch.cat([left.view, right.view], 1), model[0].kernel.flatten(1))
    with pytest.raises(ValueError, match=r"choose from \[.*'sides'\]"):
        matrices(model, split="side")


def test_what_an_outer_module_says_of_a_weight_replaces_what_the_inner_one_says(block: Block) -> None:
    labels = [part.label for part in read(block).parts["attention.out_proj.weight"]]
    assert labels == ["", "o0", "o1"]


# Names


def test_columns_are_counted_in_input_features(block: Block) -> None:
    conv = nn.Conv2d(6, 4, 3)
    (part,) = find(conv, ["weight[:,2:5]"]).values()
    assert torch.equal(part.view, conv.weight[:, 2:5].flatten(1))
    assert (part.positions, part.position, part.shape) == (9, 4, (4, 27))
    (both,) = find(block, ["attention.in_proj_weight[q][:,0:4]"]).values()
    assert torch.equal(both.view, block.attention.in_proj_weight[:8, :4])
    for wrong in ("weight[:,4:9]", "weight[:,3:3]"):
        with pytest.raises(ValueError, match=r"there are 6 input features, so columns go from 0 up to 6"):
            find(conv, [wrong])


def test_rows_go_by_their_numbers_alone_or_in_a_stack(block: Block) -> None:
    weight = block.attention.in_proj_weight
    some, stack = find(block, ["attention.in_proj_weight[2:6,:]", "attention.in_proj_weight[8:16:4,:][:,0:3]"]).values()
    assert torch.equal(some.view, weight[2:6])
    assert torch.equal(stack.view, weight[8:16, :3].reshape(2, 4, 3))
    for wrong in ("[20:25,:]", "[4:4,:]", "[0:10:4,:]", "[0:4:0,:]"):
        with pytest.raises(ValueError, match=r"there are 24 rows, so a range is from 0 up to 24"):
            find(block, [f"attention.in_proj_weight{wrong}"])


def test_a_star_stacks_all_heads(block: Block) -> None:
    (stack,) = find(block, ["attention.in_proj_weight[k*]"]).values()
    assert torch.equal(stack.view, block.attention.in_proj_weight[8:16].reshape(2, 4, 8))
    assert stack.shape == (4, 8)
    with pytest.raises(ValueError, match="cannot be written to"):
        stack.write(torch.zeros(2, 4, 8))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("upp.weight", r"no matrix 'upp.weight' in Block; the nearest names are up.weight"),
        ("attention.in_proj_weight[q7]", r"nearest names are .*attention.in_proj_weight\[q0\]"),
        ("attention.in_proj_weight[x*]", "no matrix"),
        ("attention.in_proj_weight[*]", "no matrix"),
        ("attention.in_proj_weight[q", "no matrix"),
        ("", "no matrix ''"),
        ("up.bias", "up.bias is no matrix that can be measured: a vector, not a matrix"),
    ],
)
def test_a_name_that_nothing_answers_to_is_answered_with_the_nearest(block: Block, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find(block, [name])


# Other values in place of the parameters


def test_a_master_copy_is_read_under_every_name_of_its_parameter(block: Block) -> None:
    block.decoder.weight = block.embedding.weight
    master = torch.randn(10, 8)
    reading = read(block, {"decoder.weight": master})
    both = reading.find(["embedding.weight", "decoder.weight"])
    assert torch.equal(both["embedding.weight"].view, master.T)
    assert torch.equal(both["decoder.weight"].view, master)
    assert not torch.equal(block.embedding.weight, master)


def test_a_master_copy_passes_through_what_the_layer_computes() -> None:
    layer = prune.random_unstructured(nn.Linear(4, 3), "weight", 0.5)
    master = torch.randn(3, 4)
    (matrix,) = read(layer, {"weight_orig": master}).matrices()
    assert torch.equal(matrix.view, master * layer.weight_mask)


def test_a_master_copy_must_fit(block: Block) -> None:
    with pytest.raises(ValueError, match=r"weights: the model has no parameter 'upweight'; the nearest are up.weight"):
        read(block, {"upweight": torch.ones(32, 8)})
    with pytest.raises(ValueError, match=r"weights: up.weight has shape \(8, 32\), but \(32, 8\) in the model"):
        read(block, {"up.weight": torch.ones(8, 32)})
