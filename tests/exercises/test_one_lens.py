"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr

from specdyn.exercises.one_lens import check_in_order, check_settled, check_within


# The solutions as the page shows them.
def mean_within(x: Any, y: Any, family: Any) -> Any:
    return np.mean([spearmanr(x[family == name], y[family == name]).statistic for name in set(family)])


def settled_at(steps: Any, agreement: Any, level: Any) -> Any:
    below = np.flatnonzero(agreement < level)
    after = below[-1] + 1 if len(below) else 0
    return steps[after] if after < len(steps) else np.nan


def share_in_order(rank: Any, held_out: Any, training: Any, within: Any) -> Any:
    i, j = np.triu_indices(len(rank), 1)
    near = np.abs(training[i] - training[j]) <= within
    i, j = i[near], j[near]
    return np.mean((1 + np.sign(rank[i] - rank[j]) * np.sign(held_out[i] - held_out[j])) / 2)


OWN = (np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.3, 0.2]), np.array([0.0, 0.01, 0.5]))


def check_own_runs(answer: Callable[..., Any]) -> Any:
    return check_in_order(answer, *OWN, 0.02)


CHECKS = (check_within, check_settled, check_own_runs)


@pytest.mark.parametrize(("check", "solution"), [*zip(CHECKS, (mean_within, settled_at, share_in_order), strict=True)])
def test_the_solution_of_the_page_is_right(check: Callable[..., Any], solution: Any) -> None:
    assert check(solution).right, check(solution)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("answer", [lambda *case: None, lambda *case: 1 / 0, lambda *case: "0.5", lambda: 0.5])
def test_nothing_a_reader_writes_raises(check: Callable[..., Any], answer: Any) -> None:
    assert not check(answer).right


@pytest.mark.parametrize(
    ("check", "answer", "word"),
    [
        (check_within, lambda x, y, family: spearmanr(x, y).statistic, "all families as one"),
        (
            check_within,
            lambda x, y, family: np.mean([pearsonr(x[family == f], y[family == f])[0] for f in set(family)]),
            "their ranks",
        ),
        (check_settled, lambda steps, a, level: steps[np.argmax(a >= level)], "fall back"),
        (
            check_settled,
            lambda steps, a, level: steps[min(np.flatnonzero(a < level).max(initial=-1) + 1, len(steps) - 1)],
            "not settled",
        ),
        (check_own_runs, lambda rank, held, training, within: share_in_order(rank, held, training, 9), "all pairs"),
        (check_own_runs, lambda *case: 1 - share_in_order(*case), "errs more"),
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], answer: Any, word: str) -> None:
    assert word in str(check(answer))


def test_without_ties_the_share_of_pairs_is_kendalls_tau() -> None:
    rng = np.random.default_rng(3)
    rank, held_out = rng.random(9), rng.random(9)
    verdict = check_in_order(share_in_order, rank, held_out, np.zeros(9), 0.0)
    share = (1 + kendalltau(rank, held_out).statistic) / 2
    assert f"36 pairs fitted alike the lower rank errs less in {100 * share:.0f} %" in str(verdict)


def test_readers_learn_what_their_own_runs_say_with_and_without_the_condition() -> None:
    assert str(check_own_runs(share_in_order)) == (
        "Right: of your 1 pairs fitted alike the lower rank errs less in 100 %. Of all 3 pairs it is 67 %."
    )


def test_runs_of_which_none_are_alike_are_no_mistake_of_the_answer() -> None:
    verdict = check_in_order(share_in_order, *OWN, 0.001)
    assert verdict.right
    assert "none of your runs are fitted alike" in str(verdict)
