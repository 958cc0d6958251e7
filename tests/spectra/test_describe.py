"""The table of a network: every parameter in it, every arrow right, nothing cut off unsaid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from specdyn.spectra import Description, describe, feeds, find, matrices
from tests.spectra.networks import Block


class Undecided(Block):
    """A block whose path hangs on its input, so that it cannot be traced."""

    def forward(self, words: Tensor) -> Tensor:
        return super().forward(words if words.sum() > 0 else -words)


def column(description: Description, title: str) -> dict[str, str]:
    head, *rows = description.rows()
    return {row[0]: row[head.index(title)] for row in rows}


def test_the_table_holds_every_parameter_its_kind_its_shape_and_what_it_feeds() -> None:
    model = Block()
    description = describe(model)
    assert set(column(description, "kind")) == {name for name, _ in model.named_parameters()}
    assert column(description, "shape")["attention.in_proj_weight"] == "24 x 8"
    assert column(description, "kind")["up.bias"] == "left out"
    assert column(description, "remark")["up.weight"] == "rank at most 8"
    fed = column(description, "feeds")
    assert fed["up.weight"] == "-> down.weight"
    assert fed["attention.in_proj_weight"] == "[q*] ~ [k*], [v] -> attention.out_proj.weight"
    assert fed["attention.out_proj.weight"] == "-> up.weight, +> decoder.weight"
    assert fed["decoder.weight"] == fed["up.bias"] == ""


def test_every_arrow_of_the_table_can_be_found_and_every_pair_is_in_it() -> None:
    model = Block()
    fed = column(describe(model), "feeds")
    for pair in feeds(model):
        assert set(find(model, pair[:2])) == set(pair[:2])
        weight, piece = pair.previous.partition("[")[0], pair.previous.partition("[")[2]
        assert f"{'[' * bool(piece)}{piece} {pair.arrow} ".lstrip() in fed[weight]
    assert sum(cell.count(",") + 1 for cell in fed.values() if cell) == len(feeds(model))


def test_a_piece_shows_what_it_is_part_of_feeds() -> None:
    fed = column(describe(Block(), split=["qkv", "heads"]), "feeds")
    assert fed["attention.in_proj_weight[v]"] == "-> attention.out_proj.weight"
    assert fed["attention.in_proj_weight[v1]"] == "[v] -> attention.out_proj.weight"
    assert fed["attention.in_proj_weight[q1]"] == "[q*] ~ [k*]"
    assert fed["attention.in_proj_weight[k0]"] == ""
    assert fed["attention.out_proj.weight[o0]"] == "-> up.weight, +> decoder.weight"


def test_long_lists_are_cut_and_counted() -> None:
    class Fan(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.rest = nn.ModuleList(nn.Linear(4, 2) for _ in range(5))

        def forward(self, x: Tensor) -> list[Tensor]:
            x = self.first(x)
            return [layer(x) for layer in self.rest]

    cell = column(describe(Fan()), "feeds")["first.weight"]
    assert cell == "-> rest.0.weight, -> rest.1.weight, -> rest.2.weight, and 2 more"


def test_what_is_not_clear_about_a_matrix_is_remarked() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert "8 groups" in column(describe(model), "remark")["1.weight"]
    assert "8 groups" in column(describe(model, split="groups"), "remark")["1.weight[group5]"]


def test_a_weight_that_its_layer_computes_is_remarked() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), nn.Linear(2, 2))
    remarks = column(describe(model), "remark")
    assert remarks["0.weight"] == "rank at most 2; computed by its layer, as in evaluation"
    assert remarks["1.weight"] == "rank at most 2"


def test_where_the_model_cannot_be_traced_the_table_says_so_and_what_to_do() -> None:
    description = describe(Undecided())
    assert "feeds" not in description.rows()[0]
    last = str(description).splitlines()[-1]
    assert "Undecided cannot be traced" in last
    assert "declare" in last
    assert "<caption>Undecided cannot be traced" in description._repr_html_()
    assert column(description, "shape") == column(describe(Block()), "shape")


def test_text_is_aligned_and_html_escaped() -> None:
    model = Block()
    lines = str(describe(model)).splitlines()
    start = lines[0].index("kind")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines)
    page = describe(model)._repr_html_()
    assert page.count("<tr>") == 1 + len(list(model.parameters()))
    assert "-&gt;&nbsp;</span>down.weight" in page


def test_the_table_says_all_of_a_model_that_has_nothing_to_measure() -> None:
    description = describe(nn.LayerNorm(4))
    assert not description.matrices
    assert list(column(description, "remark").values()) == ["a vector, not a matrix"] * 2
    assert str(describe(nn.Identity())) == "name  kind  shape  feeds  remark"


@pytest.mark.parametrize("model", [nn.LazyLinear(3), nn.Linear(3, 2, device="meta")])
def test_a_model_without_values_is_refused_by_name(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"^weight is (lazy|on the meta device)"):
        describe(model)


def test_describing_changes_nothing() -> None:
    model = Block()
    before, state = {name: p.clone() for name, p in model.named_parameters()}, torch.get_rng_state()
    describe(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.name for m in describe(model).matrices] == [m.name for m in matrices(model)]
