"""Whole networks of every kind against plain NumPy; one decomposition each; nothing of the model is touched."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from specdyn.spectra import alignment_chance, feeds, matrices, measure, snapshot
from specdyn.spectra.snapshot import Spectrum
from tests.spectra.networks import Block

Array = NDArray[np.float64]


NETWORKS = {
    "words": Block,
    "separate attention": lambda: nn.MultiheadAttention(8, 2, kdim=5, vdim=6),
    "images": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, (3, 5)), nn.Flatten(), nn.Linear(6 * 4, 5)),
    "one and three dimensions": lambda: nn.Sequential(nn.Conv1d(3, 4, 5), nn.Conv3d(4, 6, 2)),
    "upwards": lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.ConvTranspose2d(6, 2, (2, 3), bias=False)),
    "groups": lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 8, 3, groups=8)),
    "speech": lambda: nn.ModuleDict({"lstm": nn.LSTM(5, 6, 2, bidirectional=True), "out": nn.Linear(12, 7)}),
    "projected": lambda: nn.LSTM(5, 6, 2, proj_size=4),
    "gated": lambda: nn.ModuleDict({"gru": nn.GRU(4, 6, 2), "rnn": nn.RNN(6, 3), "cell": nn.LSTMCell(3, 4)}),
    "pairs of inputs": lambda: nn.ModuleDict({"b": nn.Bilinear(3, 4, 5), "e": nn.EmbeddingBag(9, 4)}),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[request.param]()


@pytest.fixture
def words() -> Block:
    torch.manual_seed(0)
    return Block()


def stored(model: nn.Module, name: str) -> Array:
    return model.get_parameter(name).detach().double().numpy()


def read_by_hand(model: nn.Module) -> dict[str, Array]:
    """Return every matrix of a network from its stored parameters, told apart by the type of their owner."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        values = stored(model, name)
        owner = model.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            values = values.T
        elif isinstance(owner, nn.ConvTranspose2d):
            values = np.swapaxes(values, 0, 1)
        found[name] = values.reshape(len(values), -1)
    return found


def metrics_by_hand(s: Array) -> dict[str, float]:
    p = s / s.sum()
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    total, count = 0.0, 0
    while total <= 0.9:
        total, count = total + p[count], count + 1
    return {
        "effective_rank": np.exp(entropy) / len(s),
        "spectral_entropy": entropy,
        "count_rank": count / len(s),
        "stable_rank": (s**2).sum() / s[0] ** 2,
        "gini": np.abs(s[:, None] - s[None]).sum() / (2 * len(s) ** 2 * s.mean()),
        "spectral_norm": s.max(),
        "frobenius_norm": np.sqrt((s**2).sum()),
        "nuclear_norm": s.sum(),
    }


def test_every_kind_of_network_agrees_with_plain_numpy(network: nn.Module) -> None:
    by_hand, found = read_by_hand(network), measure(network)
    assert list(found) == list(by_hand)
    for name, spectrum in found.items():
        s = np.linalg.svd(by_hand[name], compute_uv=False)
        assert spectrum.shape == by_hand[name].shape
        assert spectrum.singular_values.dtype == np.float64
        np.testing.assert_allclose(spectrum.singular_values, s, rtol=1e-6, atol=1e-9 * s[0])
        for metric, value in metrics_by_hand(s).items():
            assert getattr(spectrum, metric) == pytest.approx(value, rel=1e-6, abs=1e-9), (name, metric)
        assert spectrum.svd.residual(torch.from_numpy(by_hand[name])) < 1e-9
        assert spectrum.svd.orthogonality() < 1e-9


@pytest.mark.parametrize("split", ["gates", "groups", "heads", "qkv"])
def test_pieces_together_hold_the_energy_of_the_whole(network: nn.Module, split: str) -> None:
    pieces, wholes = measure(network, split=split), measure(network)
    for name, whole in wholes.items():
        parts = [s.frobenius_norm for key, s in pieces.items() if key.partition("[")[0] == name]
        assert np.hypot.reduce(parts) == pytest.approx(whole.frobenius_norm)


# Alignment, written out for each kind of layer


def sides(weight: Array) -> tuple[Array, Array]:
    """Return the left and right singular vectors, as columns."""
    U, _, Vh = np.linalg.svd(weight, full_matrices=False)
    return U, Vh.T


def overlap(left: Array, right: Array) -> Array:
    """Return |left' right| for all pairs of columns."""
    return np.abs(left.T @ right)


def ours(model: nn.Module, pair: Any, rule: Any = "paper", **options: Any) -> Array:
    block = measure(model, pairs=[pair], **options).alignment_block(pair, rule, k=100).numpy()
    diagonal = measure(model, pairs=[pair], **options).alignment(pair, rule).numpy()
    np.testing.assert_allclose(np.diagonal(block), diagonal, atol=1e-12)
    return block


def test_an_embedding_and_fused_attention_and_plain_layers(words: Block) -> None:
    reversed_in_and_out = sides(stored(words, "embedding.weight"))[1]
    expected = overlap(reversed_in_and_out, sides(stored(words, "attention.in_proj_weight"))[1])
    pair = ("embedding.weight", "attention.in_proj_weight")
    np.testing.assert_allclose(ours(words, pair), expected, atol=1e-6)
    up, down = stored(words, "up.weight"), stored(words, "down.weight")
    expected = overlap(sides(up)[0], sides(down)[1])
    np.testing.assert_allclose(ours(words, ("up.weight", "down.weight", "->")), expected, atol=1e-6)
    np.testing.assert_allclose(ours(words, ("up.weight", "down.weight", "+>")), expected, atol=1e-6)


def test_queries_meet_keys_head_by_head_and_values_the_output(words: Block) -> None:
    fused = stored(words, "attention.in_proj_weight")
    heads = [overlap(sides(fused[4 * h : 4 * h + 4])[0], sides(fused[8 + 4 * h : 12 + 4 * h])[0]) for h in range(2)]
    pair = ("attention.in_proj_weight[q*]", "attention.in_proj_weight[k*]", "~")
    np.testing.assert_allclose(ours(words, pair), np.mean(heads, 0), atol=1e-6)
    expected = overlap(sides(fused[16:])[0], sides(stored(words, "attention.out_proj.weight"))[1])
    pair = ("attention.in_proj_weight[v]", "attention.out_proj.weight")
    np.testing.assert_allclose(ours(words, pair), expected, atol=1e-6)


def positions_by_hand(U: Array, V: Array, c: int) -> Array:
    """Return |<u_i, v_j at p>| over (position, i, j) for right vectors of features x positions."""
    return np.abs(np.einsum("ci,cpj->pij", U, V.reshape(c, -1, V.shape[1])))


@pytest.mark.parametrize(("kind", "kernel"), [(nn.Conv2d, (3, 5)), (nn.ConvTranspose2d, (4, 3))])
def test_kernels_are_compared_at_their_centre_or_over_all_positions(
    kind: type[nn.Module], kernel: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(kind(4, 6, 3), kind(6, 5, kernel))
    by_hand = read_by_hand(model)
    U, V = sides(by_hand["0.weight"])[0], sides(by_hand["1.weight"])[1]
    places = positions_by_hand(U, V, 6)
    h, w = kernel
    pair = ("0.weight", "1.weight")
    np.testing.assert_allclose(ours(model, pair), places[(h // 2) * w + w // 2][:, :5], atol=1e-6)
    np.testing.assert_allclose(ours(model, pair, "norm"), np.sqrt((places**2).sum(0))[:, :5], atol=1e-6)


def test_a_layer_that_reads_flattened_maps_reads_features_at_positions() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 6, 2), nn.Flatten(), nn.Linear(6 * 9, 5))
    places = positions_by_hand(
        sides(stored(model, "0.weight").reshape(6, -1))[0], sides(stored(model, "2.weight"))[1], 6
    )
    pair = ("0.weight", "2.weight")
    np.testing.assert_allclose(ours(model, pair), places[4], atol=1e-6)
    np.testing.assert_allclose(ours(model, pair, "norm"), np.sqrt((places**2).sum(0)), atol=1e-6)


def test_what_two_kernels_write_has_no_positions() -> None:
    torch.manual_seed(1)
    model = nn.ModuleDict({"q": nn.Conv2d(3, 6, 3), "k": nn.Conv2d(2, 6, 3)})
    by_hand = read_by_hand(model)
    expected = overlap(sides(by_hand["q.weight"])[0], sides(by_hand["k.weight"])[0])
    for rule in ("paper", "norm"):
        np.testing.assert_allclose(ours(model, ("q.weight", "k.weight", "~"), rule), expected, atol=1e-6)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_pass_on_the_candidate_or_all_gates(kind: type[nn.RNNBase], gates: int) -> None:
    torch.manual_seed(1)
    model = kind(5, 6, 2, bidirectional=True)
    U = sides(stored(model, "weight_hh_l0_reverse"))[0].reshape(gates, 6, 6)
    half = sides(stored(model, "weight_ih_l1_reverse")[:, 6:])[1]
    pair = ("weight_hh_l0_reverse", "weight_ih_l1_reverse[:,6:12]")
    every = np.abs(np.einsum("gci,cj->gij", U, half))
    np.testing.assert_allclose(ours(model, pair), every[2], atol=1e-6)
    np.testing.assert_allclose(ours(model, pair, "norm"), np.sqrt((every**2).sum(0)), atol=1e-6)


def test_the_same_pair_by_gate_needs_no_rule() -> None:
    torch.manual_seed(1)
    model = nn.LSTM(5, 6)
    by_gate = ours(model, ("weight_ih_l0[f]", "weight_hh_l0[i]"), split="gates")
    f, i = stored(model, "weight_ih_l0")[6:12], stored(model, "weight_hh_l0")[:6]
    np.testing.assert_allclose(by_gate, overlap(sides(f)[0], sides(i)[1]), atol=1e-6)


TRACED = {
    "attention": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12), 2, enable_nested_tensor=False),
    "images": NETWORKS["images"],
    "upwards": NETWORKS["upwards"],
    "speech": lambda: nn.LSTM(5, 6, 3, bidirectional=True),
    "projected": NETWORKS["projected"],
}


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("rule", ["paper", "norm"])
def test_every_pair_that_tracing_finds_can_be_measured(name: str, rule: Any) -> None:
    torch.manual_seed(0)
    model = TRACED[name]()
    pairs = feeds(model)
    measured = measure(model, pairs=pairs, vectors=False)
    assert pairs
    for pair in pairs:
        diagonal = measured.alignment(pair, rule)
        assert ((diagonal >= 0) & (diagonal <= 1 + 1e-9)).all()
        assert 0 < measured.alignment_chance(pair, rule) < 1


CHANCES = {
    "words": (("attention.in_proj_weight[q*]", "attention.in_proj_weight[k*]", "~"), 4, {}),
    "images": (("0.weight", "1.weight"), 8, {"positions": 15, "position": 7}),
    "speech": (("lstm.weight_hh_l0", "lstm.weight_ih_l1[:,0:6]"), 6, {"blocks": 4, "block": 2}),
}


@pytest.mark.parametrize("name", CHANCES)
@pytest.mark.parametrize("rule", ["paper", "norm"])
def test_unrelated_layers_score_their_chance_level(name: str, rule: Any) -> None:
    pair, features, chosen = CHANCES[name]
    torch.manual_seed(0)
    scores = []
    for _ in range(100):
        model = NETWORKS[name]()
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        measured = measure(model, pairs=[pair], vectors=False)
        scores.append(measured.alignment(pair, rule).mean().item())
    chance = measured.alignment_chance(pair, rule)
    sized = {key: value for key, value in chosen.items() if rule == "paper" or key in ("blocks", "positions")}
    assert chance == pytest.approx(alignment_chance(features, **sized))
    assert np.mean(scores) == pytest.approx(chance, abs=5 * np.std(scores) / 10)


@pytest.mark.parametrize(
    ("pair", "rule", "says"),
    [
        (("up.weight", "decoder.weight"), "paper", "32"),
        (("up.weight", "down.weight", "=>"), "paper", "unknown arrow '=>'"),
        (("up.weight", "down.weight"), "mean", "unknown rule 'mean'"),
        (("attention.in_proj_weight[v]", "up.weight"), "paper", r"in_proj_weight\[v\] is not in this snapshot"),
        (("embedding.weight", "up.weight"), "paper", "embedding.weight was measured without vectors"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(words: Block, pair: Any, rule: Any, says: str) -> None:
    measured = measure(words, vectors={"up.weight", "down.weight", "decoder.weight"})
    with pytest.raises(ValueError, match=says):
        measured.alignment(pair, rule)


def test_a_pair_of_unknown_names_is_refused_when_it_is_measured(words: Block) -> None:
    with pytest.raises(ValueError, match=r"no matrix 'upp.weight'"):
        measure(words, pairs=[("upp.weight", "down.weight")])
    with pytest.raises(ValueError, match="unknown arrow"):
        measure(words, pairs=[("up.weight", "down.weight", "~>")])


def test_a_layer_without_components_of_its_own_has_no_alignment(words: Block) -> None:
    nn.init.zeros_(words.down.weight)
    measured = measure(words)
    assert measured.alignment(("up.weight", "down.weight")).isnan().all()
    assert measured["down.weight"].collapsed
    assert measured["down.weight"].effective_rank == 0


def test_a_head_that_collapsed_does_not_hide_the_others(words: Block) -> None:
    with torch.no_grad():
        words.attention.in_proj_weight[4:8] = 0
    fused = stored(words, "attention.in_proj_weight")
    pair = ("attention.in_proj_weight[q*]", "attention.in_proj_weight[k*]", "~")
    expected = overlap(sides(fused[:4])[0], sides(fused[8:12])[0])
    np.testing.assert_allclose(ours(words, pair), expected, atol=1e-6)


# One decomposition


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the name of whatever is decomposed, with vectors or without."""
    done: list[str] = []
    for function in ("decompose", "singular_values"):
        original = getattr(snapshot, function)

        def noting(view: torch.Tensor, original: Any = original, **options: Any) -> Any:
            done.append(options["name"])
            return original(view, **options)

        monkeypatch.setattr(snapshot, function, noting)
    return done


def test_each_matrix_is_decomposed_once_whatever_is_asked(words: Block, decomposed: list[str]) -> None:
    pairs = [("up.weight", "down.weight"), ("up.weight", "down.weight", "+>"), ("embedding.weight", "up.weight")]
    measured = measure(words, pairs=pairs, vectors={"up.weight"})
    for pair in pairs:
        measured.alignment(pair)
        measured.alignment(pair, "norm")
        measured.alignment_block(pair)
    assert [measured[name].effective_rank for name in measured]
    assert sorted(decomposed) == sorted(measured)


def test_a_tied_weight_is_decomposed_once_and_turned(words: Block, decomposed: list[str]) -> None:
    words.decoder.weight = words.embedding.weight
    pair = ("down.weight", "decoder.weight")
    expected = overlap(sides(stored(words, "down.weight"))[0], sides(stored(words, "embedding.weight"))[1])
    measured = measure(words, pairs=[pair])
    np.testing.assert_allclose(np.diagonal(expected), measured.alignment(pair), atol=1e-6)
    assert len(decomposed) == len(measured) == len(matrices(words))
    assert "decoder.weight" not in measured


# What is asked for is what is measured


def test_vectors_come_where_they_are_wanted_and_where_a_pair_needs_them(words: Block) -> None:
    values = measure(words, vectors=False)
    with pytest.raises(ValueError, match=r"up.weight was measured without vectors"):
        _ = values["up.weight"].svd
    some = measure(words, vectors={"up.weight"}, pairs=[("down.weight", "attention.in_proj_weight[v]")])
    assert [name for name in some if some[name].vectors is not None] == ["up.weight", "down.weight"]
    assert list(some) == list(values)
    for name, spectrum in measure(words).items():
        assert values[name].singular_values == pytest.approx(spectrum.singular_values, rel=1e-6)
    with pytest.raises(ValueError, match=r"vectors: no matrix upp.weight; the matrices are embedding.weight"):
        measure(words, vectors=["upp.weight"])


@pytest.mark.parametrize(("method", "tolerance"), [("gram", 1e-9), ("svd", 1e-9), ("qr", 1e-4)])
def test_the_method_can_be_forced(network: nn.Module, method: Any, tolerance: float) -> None:
    for vectors in (True, False):
        for name, spectrum in measure(network, method=method, vectors=vectors).items():
            s = np.linalg.svd(read_by_hand(network)[name], compute_uv=False)
            np.testing.assert_allclose(spectrum.singular_values, s, rtol=tolerance, atol=1e-7 * s[0])
            assert spectrum.singular_values.dtype == np.float64


def test_a_method_that_does_not_exist_is_refused(words: Block) -> None:
    with pytest.raises(ValueError, match="unknown method 'fast'"):
        measure(words, method="fast")


def test_an_unknown_name_is_answered_with_the_names_there_are(words: Block) -> None:
    with pytest.raises(KeyError, match=r"no matrix .upp.weight.*embedding.weight"):
        measure(words)["upp.weight"]


def test_a_snapshot_prints_as_a_table(words: Block) -> None:
    measured = measure(words)
    head, *lines = repr(measured).splitlines()
    assert head.split("  ")[0] == "name"
    assert [line.split()[0] for line in lines] == list(measured)
    row = re.search(r"up\.weight +Linear +32 x 8 +(\S+) +(\S+) +(\S+) +(\S+)", repr(measured))
    assert row is not None
    up = metrics_by_hand(np.linalg.svd(stored(words, "up.weight"), compute_uv=False))
    shown = [up[key] for key in ("effective_rank", "stable_rank", "spectral_norm", "frobenius_norm")]
    assert [float(cell) for cell in row.groups()] == pytest.approx(shown, rel=5e-3)
    assert measured._repr_html_().count("<tr>") == 1 + len(measured)
    assert repr(measured["up.weight"]).startswith("Spectrum('up.weight', 32 x 8, effective_rank=")


def test_each_number_says_what_it_is() -> None:
    for name in metrics_by_hand(np.ones(2)):
        described = Spectrum.__dict__[name].__doc__
        assert described.startswith(f"See `{name}`. Return ")


# The model stays as it is


def test_measuring_changes_neither_weights_nor_the_random_state(network: nn.Module) -> None:
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    state = torch.get_rng_state()
    measure(network, split=["heads", "gates"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_a_snapshot_does_not_follow_the_weights(network: nn.Module) -> None:
    measured = measure(network)
    before = {name: s.singular_values.copy() for name, s in measured.items()}
    views = {matrix.name: matrix.view.clone() for matrix in matrices(network)}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    for name, spectrum in measured.items():
        assert np.array_equal(spectrum.singular_values, before[name])
        assert spectrum.svd.residual(views[name]) < 1e-9
        assert measure(network)[name].collapsed


# Numbers that are hard to read


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_are_read_exactly_as_they_are_stored(network: nn.Module, dtype: torch.dtype) -> None:
    for name, spectrum in measure(network.to(dtype)).items():
        s = np.linalg.svd(read_by_hand(network)[name], compute_uv=False)
        np.testing.assert_allclose(spectrum.singular_values, s, rtol=1e-6, atol=1e-9 * s[0])


def test_a_master_copy_is_measured_in_place_of_rounded_weights(words: Block) -> None:
    masters = {name: p.detach().clone() for name, p in words.named_parameters()}
    exact = measure(words)
    words.bfloat16()
    rounded, mastered = measure(words), measure(words, weights=masters)
    for name in exact:
        assert np.array_equal(mastered[name].singular_values, exact[name].singular_values)
        assert not np.allclose(rounded[name].singular_values, exact[name].singular_values, rtol=1e-6)
    assert words.up.weight.dtype == torch.bfloat16
    some = measure(words, weights={"up.weight": masters["up.weight"]})
    assert np.array_equal(some["up.weight"].singular_values, exact["up.weight"].singular_values)
    assert np.array_equal(some["down.weight"].singular_values, rounded["down.weight"].singular_values)


BROKEN = {
    "words": ("attention.in_proj_weight", "attention.in_proj_weight", 3),
    "images": ("1.weight", "1.weight", 1),
    "upwards": ("0.weight", "0.weight", 2),
    "speech": ("lstm.weight_hh_l1_reverse", "lstm.weight_hh_l1_reverse", 2),
    "gated": ("cell.weight_ih", "cell.weight_ih", 1),
}


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", BROKEN)
def test_a_number_that_is_none_is_an_error_that_names_and_counts(name: str, bad: float, vectors: bool) -> None:
    parameter, matrix, count = BROKEN[name]
    model = NETWORKS[name]()
    with torch.no_grad():
        weight = model.get_parameter(parameter)
        weight.flatten()[:count] = bad
    verb = "is" if count == 1 else "are"
    with pytest.raises(ValueError, match=rf"{matrix}: {count} of {weight.numel()} entries {verb} NaN or infinite"):
        measure(model, vectors=vectors)


def test_the_piece_that_is_not_finite_is_named(words: Block) -> None:
    with torch.no_grad():
        words.attention.in_proj_weight[4:8, 0] = float("nan")
    with pytest.raises(ValueError, match=r"attention.in_proj_weight\[q1\]: 4 of 32 entries are NaN"):
        measure(words, split="heads")
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    nn.init.zeros_(normed.parametrizations.weight.original1)
    with pytest.raises(ValueError, match=r"weight: 6 of 6 entries are NaN"):
        measure(normed)


def test_a_model_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="LayerNorm has no matrix that can be measured"):
        measure(nn.LayerNorm(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_model_on_two_devices_is_measured_where_its_layers_lie(words: Block) -> None:
    expected = measure(words)
    words.down.to("cuda")
    measured = measure(words)
    for name in expected:
        np.testing.assert_allclose(measured[name].singular_values, expected[name].singular_values, rtol=1e-6)
    for pair in (("up.weight", "down.weight"), ("down.weight", "decoder.weight")):
        ours, theirs = measured.alignment(pair).cpu(), expected.alignment(pair)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("m", "n", "published", "tolerance"),
    [(512, 512, 0.805, 0.01), (256, 128, 0.926, 0.005), (384, 128, 0.953, 0.005), (512, 128, 0.966, 0.005)],
)
def test_fresh_linear_layers_have_the_known_effective_rank(m: int, n: int, published: float, tolerance: float) -> None:
    """At PyTorch's initialisation the effective rank depends on the aspect ratio alone."""
    torch.manual_seed(0)
    assert measure(nn.Linear(n, m), vectors=False)["weight"].effective_rank == pytest.approx(published, abs=tolerance)


@pytest.mark.parametrize(
    "pairs", ["0.weight -> 1.weight", ["0.weight -> 1.weight"], ("0.weight", "1.weight"), [("0",)]]
)
def test_what_is_no_pair_is_refused_with_the_way_to_make_one(pairs: Any) -> None:
    with pytest.raises(ValueError, match=r"is no pair: give .*specdyn\.declare"):
        measure(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), pairs=pairs)


def test_one_name_asks_for_the_vectors_of_one_matrix() -> None:
    found = measure(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), vectors="0.weight")
    assert [name for name, spectrum in found.items() if spectrum.vectors is not None] == ["0.weight"]
