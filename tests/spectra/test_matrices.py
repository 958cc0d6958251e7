"""Which matrices are found in a network, how they are read, and what is said of the rest."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from specdyn.spectra import Part, agreement, alignment, decompose, describe, matrices, measure, read_module


class Block(nn.Module):
    """One attention layer and a feed-forward pair, with an embedding before and a decoder after."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
        self.decoder = nn.Linear(8, 10)


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block()


def test_matrices_come_in_parameter_order_with_their_names(block: Block) -> None:
    found = matrices(block)
    names = [name for name, p in block.named_parameters() if p.ndim >= 2]
    assert [matrix.name for matrix in found] == names
    assert [matrix.shape for matrix in found] == [
        (8, 10),
        (24, 8),
        (8, 8),
        (32, 8),
        (8, 32),
        (10, 8),
    ]


def test_views_share_memory_with_the_parameters(block: Block) -> None:
    for matrix in matrices(block, split="heads"):
        parameter = block.get_parameter(matrix.name.partition("[")[0])
        assert matrix.view.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
        assert not matrix.view.requires_grad


def test_an_embedding_maps_a_word_to_its_vector(block: Block) -> None:
    word = torch.tensor(3)
    one_hot = nn.functional.one_hot(word, 10).float()
    assert torch.equal(matrices(block)[0].view @ one_hot, block.embedding(word))


def test_heads_are_what_attention_computes_with(block: Block) -> None:
    by_name = {matrix.name: matrix.view for matrix in matrices(block, split="heads")}
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))
    attention = block.attention
    nn.init.normal_(attention.in_proj_bias, generator=torch.Generator().manual_seed(2))
    bias = attention.in_proj_bias.reshape(3, 2, 4)
    total = attention.out_proj.bias.expand(5, 8).clone()
    for h in range(2):
        q, k, v = (
            x[0] @ by_name[f"attention.in_proj_weight[{letter}{h}]"].T + bias[i, h] for i, letter in enumerate("qkv")
        )
        weights = torch.softmax(q @ k.T / 4**0.5, dim=-1)
        total += weights @ v @ by_name[f"attention.out_proj.weight[o{h}]"].T
    attention.batch_first = True
    assert torch.allclose(total, attention(x, x, x)[0][0], atol=1e-6)


def test_heads_together_hold_the_energy_of_the_fused_matrix(block: Block) -> None:
    fused, heads = measure(block), measure(block, split="heads")
    for name in ("attention.in_proj_weight", "attention.out_proj.weight"):
        parts = [s.frobenius_norm for key, s in heads.items() if key.startswith(name)]
        assert np.hypot.reduce(parts) == pytest.approx(fused[name].frobenius_norm)


def test_separate_projections_are_found() -> None:
    attention = nn.MultiheadAttention(8, 2, kdim=5, vdim=6)
    assert [(m.name, m.shape) for m in matrices(attention)] == [
        ("q_proj_weight", (8, 8)),
        ("k_proj_weight", (8, 5)),
        ("v_proj_weight", (8, 6)),
        ("out_proj.weight", (8, 8)),
    ]
    heads = [m for m in matrices(attention, split="heads") if m.name.startswith("k_proj")]
    assert [(m.name, m.shape) for m in heads] == [
        ("k_proj_weight[k0]", (4, 5)),
        ("k_proj_weight[k1]", (4, 5)),
    ]


def test_everything_left_out_has_a_reason(block: Block) -> None:
    block.shears = nn.LayerNorm((3, 4))
    block.free = nn.Parameter(torch.ones(2, 2))
    reasons = {row.name: row.reason for row in describe(block).left_out}
    assert "no known kind" in reasons["free"]
    assert reasons["shears.weight"] == "multiplied or added entry by entry, not a matrix"
    assert reasons["norm.weight"] == reasons["up.bias"] == "a vector, not a matrix"
    every = {name for name, _ in block.named_parameters()}
    assert set(reasons) | {matrix.name for matrix in describe(block).matrices} == every


def test_attention_with_extra_bias_vectors() -> None:
    description = describe(nn.MultiheadAttention(8, 2, add_bias_kv=True))
    assert {row.name: row.reason for row in description.left_out}["bias_k"] == "a vector, not a matrix"


def test_tied_weights_are_measured_once(block: Block) -> None:
    block.decoder.weight = block.embedding.weight
    description = describe(block)
    assert [m.name for m in description.matrices if m.view.numel() == 80] == ["embedding.weight"]
    tied = next(row for row in description.left_out if row.name == "decoder.weight")
    assert tied.reason == "the same tensor as embedding.weight"


def test_a_layer_used_twice_is_measured_once() -> None:
    layer = nn.Linear(3, 3, bias=False)
    description = describe(nn.Sequential(layer, nn.ReLU(), layer))
    assert [m.name for m in description.matrices] == ["0.weight"]
    assert description.left_out[0].reason == "the same tensor as 0.weight"


def test_single_rows_and_columns_of_known_layers_count() -> None:
    assert [m.shape for m in matrices(nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1)))] == [
        (1, 4),
        (1, 1),
    ]


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.arange(24.0).reshape(2, 3, 4))


@pytest.fixture
def _taught() -> Iterator[None]:
    @read_module.register
    def _(module: Mixer) -> list[Part]:
        return [Part("kernel", "Mixer", module.kernel.flatten(1))]

    yield
    read_module.register(Mixer, read_module.dispatch(nn.Module))


@pytest.mark.usefixtures("_taught")
def test_a_new_kind_of_layer_takes_one_function() -> None:
    model = nn.Sequential(Mixer(), nn.Linear(2, 2))
    first = matrices(model)[0]
    assert (first.name, first.kind, first.shape) == ("0.kernel", "Mixer", (2, 12))
    assert measure(model)["0.kernel"].singular_values.shape == (2,)


def test_the_table_prints_and_escapes(block: Block) -> None:
    text, page = str(describe(block)), describe(block)._repr_html_()
    assert "attention.in_proj_weight   attention input   24 x 8" in text
    assert "a vector, not a matrix" in text
    assert page.count("<tr>") == 1 + len(list(block.parameters()))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.LayerNorm(4), "LayerNorm has no matrix that can be measured; specdyn.describe"),
        (nn.Identity(), "Identity has no matrix"),
        (nn.LazyLinear(4), "weight is lazy and has no shape yet"),
        (nn.Linear(3, 4, device="meta"), "weight is on the meta device"),
        (nn.Linear(3, 4, dtype=torch.complex64), "no matrix that can be measured"),
    ],
)
def test_models_without_matrices_are_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        matrices(model)


def test_an_empty_layer_is_left_out_with_the_reason() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 2))
    left = {row.name: row.reason for row in describe(model).left_out}
    assert left["0.weight"] == "empty"
    assert list(measure(model)) == ["1.weight"]


def test_a_snapshot_reads_everything_off_one_decomposition(block: Block) -> None:
    snapshot = measure(block)
    assert list(snapshot) == [m.name for m in matrices(block)]
    for matrix in matrices(block):
        spectrum = snapshot[matrix.name]
        exact = torch.linalg.svdvals(matrix.view.double()).numpy()
        assert spectrum.singular_values == pytest.approx(exact, rel=1e-9)
        assert spectrum.singular_values.dtype == np.float64
        assert spectrum.svd.residual(matrix.view) < 1e-9
        assert spectrum.stable_rank == pytest.approx((exact**2).sum() / exact[0] ** 2)
        assert not spectrum.collapsed
    values = measure(block, vectors=False)
    assert values["up.weight"].singular_values == pytest.approx(snapshot["up.weight"].singular_values)
    with pytest.raises(ValueError, match=r"up.weight was measured without vectors"):
        _ = values["up.weight"].svd
    some = measure(block, vectors={"up.weight"})
    assert torch.equal(some["up.weight"].svd.U, snapshot["up.weight"].svd.U)
    assert [name for name in some if some[name].vectors is not None] == ["up.weight"]


def test_a_snapshot_does_not_follow_the_weights(block: Block) -> None:
    snapshot = measure(block)
    before = snapshot["up.weight"].singular_values.copy()
    with torch.no_grad():
        block.up.weight.zero_()
    assert np.array_equal(snapshot["up.weight"].singular_values, before)
    assert snapshot["up.weight"].svd.residual(block.up.weight) > 0.5
    assert measure(block)["up.weight"].collapsed
    assert measure(block)["up.weight"].effective_rank == 0


def test_a_nan_weight_is_named(block: Block) -> None:
    with torch.no_grad():
        block.down.weight[0, :3] = float("nan")
    with pytest.raises(ValueError, match=r"down.weight: 3 of 256 entries are NaN"):
        measure(block)


def test_an_unknown_name_is_answered_with_the_names_there_are(block: Block) -> None:
    with pytest.raises(KeyError, match=r"no matrix .upp.weight.*embedding.weight"):
        measure(block)["upp.weight"]


def test_measuring_changes_neither_weights_nor_the_random_state(block: Block) -> None:
    before = {name: p.detach().clone() for name, p in block.named_parameters()}
    state = torch.get_rng_state()
    measure(block, split="heads")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in block.named_parameters())


def test_low_precision_weights_are_read_as_they_are_stored(block: Block) -> None:
    half = measure(block.bfloat16())["up.weight"]
    exact = torch.linalg.svdvals(block.up.weight.detach().double()).numpy()
    assert half.singular_values == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("m", "n", "published", "tolerance"),
    [
        (512, 512, 0.805, 0.01),
        (256, 128, 0.926, 0.005),
        (384, 128, 0.953, 0.005),
        (512, 128, 0.966, 0.005),
    ],
)
def test_fresh_linear_layers_have_the_known_effective_rank(m: int, n: int, published: float, tolerance: float) -> None:
    """At PyTorch's initialisation the effective rank depends on the aspect ratio alone."""
    torch.manual_seed(0)
    assert measure(nn.Linear(n, m), vectors=False)["weight"].effective_rank == pytest.approx(published, abs=tolerance)


def test_decomposition_of_heads_works_as_a_batch(block: Block) -> None:
    heads = [m.view for m in matrices(block, split="heads") if "[q" in m.name]
    stacked = decompose(torch.stack(heads))
    for i, head in enumerate(heads):
        assert torch.allclose(stacked.S[i], decompose(head).S)


def test_a_whole_network_agrees_with_plain_numpy(block: Block) -> None:
    torch.manual_seed(1)
    other = Block()
    stored = {name: p.detach().double().numpy() for name, p in block.named_parameters()}
    elsewhere = {name: p.detach().double().numpy() for name, p in other.named_parameters()}
    snapshot, second = measure(block), measure(other)
    for name, spectrum in snapshot.items():
        W, X = (w[name].T if name == "embedding.weight" else w[name] for w in (stored, elsewhere))
        U, s, Vh = np.linalg.svd(W, full_matrices=False)
        P, _, Qh = np.linalg.svd(X, full_matrices=False)
        p = s / s.sum()
        assert spectrum.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()) / len(s), rel=1e-6)
        assert spectrum.frobenius_norm == pytest.approx(np.linalg.norm(W), rel=1e-9)
        assert spectrum.stable_rank == pytest.approx(np.linalg.norm(W) ** 2 / np.linalg.norm(W, 2) ** 2)
        ours = agreement(spectrum.svd, second[name].svd)
        assert ours.numpy() == pytest.approx(np.abs((U * P).sum(0) * (Vh * Qh).sum(1)), abs=1e-6)
    wrote = np.linalg.svd(stored["up.weight"], full_matrices=False)[0]
    read = np.linalg.svd(stored["down.weight"], full_matrices=False)[2]
    ours = alignment(snapshot["up.weight"].svd, snapshot["down.weight"].svd)
    assert ours.numpy() == pytest.approx(np.abs((wrote * read.T).sum(0)), abs=1e-6)
