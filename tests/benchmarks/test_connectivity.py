"""The ways that are compared find the same, and the table says which is which."""

import torch

from benchmarks import connectivity as benchmark
from specdyn.tasks import build, image_classification

CPU = torch.device("cpu")


@torch.no_grad()
def test_networks_give_the_same_in_one_call_as_one_by_one() -> None:
    cases = benchmark.cases(CPU)
    assert list(cases) == ["image-classification", "image-generation"]
    for networks, estimated, inputs in cases.values():
        few, some = networks[::5], tuple(x[:16] for x in inputs)
        assert len(few) == 3
        one, all_at_once = (way(few, estimated, some) for way in (benchmark.one_by_one, benchmark.batched))
        torch.testing.assert_close(one, all_at_once, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(one[0], one[1], atol=1e-2)


def test_a_line_takes_fewer_points_than_a_grid_that_is_as_exact() -> None:
    looked, even = benchmark.points(0.1, 0.01)
    assert 11 < looked < even / 2
    spacing = 1 / (even - 1)
    assert (
        1 - benchmark.narrow(0.1, place=spacing / 2)(0) <= 0.01 < 1 - benchmark.narrow(0.1, place=spacing / 2 * 1.05)(0)
    )


def test_mixtures_are_the_same_however_often_they_are_decomposed() -> None:
    ends = [build(image_classification("smoke"), seed) for seed in (0, 1)]
    for one, other in zip(benchmark.mixed_once(*ends), benchmark.mixed_each(*ends), strict=True):
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_row_says_how_many_times_as_long_the_other_way_takes() -> None:
    assert benchmark.row("a line", 2.0, 3.0).split() == ["a", "line", "2.000", "3.000", "1.50"]
    short, long = benchmark.seconds(lambda: None, lambda: sum(range(300_000)), repeats=3)
    assert short < long
