"""Each check accepts the solution and names typical mistakes; none of them ever raises."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from specdyn.exercises.linear_mode_connectivity import (
    SHARES,
    check_agreement,
    check_barrier,
    check_matched,
    check_middle,
    check_noisy,
    check_reordered,
    made_apart,
)
from specdyn.interventions import combined, match_weights, permuted, reestimate, symmetries
from specdyn.spectra import agreement, decompose, top_score


# The solutions as the chapter shows them.
def barrier(at: Any, losses: Any) -> Any:
    return (losses - ((1 - at) * losses[0] + at * losses[-1])).max()


def score(A: Any, B: Any, k: Any) -> Any:
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    X, _, Yh = np.linalg.svd(B, full_matrices=False)
    return np.abs((U * X).sum(0) * (Vh * Yh).sum(1))[:k].mean()


def noisy(W: Any, E: Any, eta: Any) -> Any:
    moved = W + eta * np.linalg.norm(W) * E / np.linalg.norm(E)
    return moved * np.linalg.norm(W) / np.linalg.norm(moved)


def reordered(W1: Any, b1: Any, W2: Any, order: Any) -> Any:
    return W1[order], b1[order], W2[:, order]


def half_way(one: Any, two: Any, batches: Any) -> Any:
    return reestimate(combined([one, two], [0.5, 0.5]), batches)


def between(one: Any, two: Any, loss: Any) -> Any:
    losses = np.array([loss(combined([one, two], [1 - a, a])) for a in SHARES])
    return barrier(np.array(SHARES), losses)


def aligned(one: Any, two: Any, example: Any) -> Any:
    return permuted(two, match_weights(one, two, symmetries(one, example)))


def matched(one: Any, two: Any, loss: Any, example: Any) -> Any:
    return between(one, two, loss), between(one, aligned(one, two, example), loss)


# The same in other words, which are as right.
def barrier_by_interpolation(at: Any, losses: Any) -> Any:
    line = torch.from_numpy(np.interp(at, [0, 1], losses[[0, -1]]))
    return (torch.from_numpy(losses) - line).max()


def score_of_tensors(A: Any, B: Any, k: Any) -> Any:
    (U, _, Vh), (X, _, Yh) = (torch.linalg.svd(W, full_matrices=False) for W in (A, B))
    return torch.einsum("mj,mj,jn,jn->j", U, X, Vh, Yh).abs()[:k].mean()


def score_of_library(A: Any, B: Any, k: Any) -> Any:
    return top_score(agreement(decompose(torch.as_tensor(A)), decompose(torch.as_tensor(B))), k=k)


def noisy_tensors(W: torch.Tensor, E: torch.Tensor, eta: float) -> torch.Tensor:
    return torch.nn.functional.normalize((W / W.norm() + eta * E / E.norm()).flatten(), dim=0).view_as(W) * W.norm()


def with_gradient(W: torch.Tensor, E: torch.Tensor, eta: float) -> torch.Tensor:
    return noisy_tensors(W.clone().requires_grad_(), E, eta)


def reordered_by_matrix(W1: Any, b1: Any, W2: Any, order: Any) -> Any:
    P = np.eye(len(order))[order]
    return [P @ W1, P @ b1, W2 @ P.T]


def half_way_by_torch(one: Any, two: Any, batches: Any) -> Any:
    average = AveragedModel(one, use_buffers=True)
    average.update_parameters(one)
    average.update_parameters(two)
    update_bn(batches, average)
    return average


def half_way_by_hand(one: Any, two: Any, batches: Any) -> Any:
    middle = copy.deepcopy(one)
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), two.parameters(), strict=True):
            parameter.add_(other).div_(2)
        middle[1].reset_running_stats()
        middle[1].momentum = None
        for batch in batches:
            middle.train()(batch)
    return middle


@pytest.mark.parametrize(
    ("check", "solution"),
    [
        (check_barrier, barrier),
        (check_barrier, barrier_by_interpolation),
        (check_agreement, score),
        (check_agreement, score_of_tensors),
        (check_agreement, score_of_library),
        (check_noisy, noisy),
        (check_noisy, noisy_tensors),
        (check_noisy, with_gradient),
        (check_reordered, reordered),
        (check_reordered, reordered_by_matrix),
        (check_middle, half_way),
        (check_middle, half_way_by_torch),
        (check_middle, half_way_by_hand),
    ],
    ids=lambda f: f.__name__,
)
def test_the_solution_is_right(check: Callable[..., Any], solution: Callable[..., Any]) -> None:
    verdict = check(solution)
    assert verdict.right, verdict


def sides(A: Any, B: Any) -> Any:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return (U * X).sum(0), (Vh * Yh).sum(1)


def block(A: Any, B: Any, k: int) -> Any:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.abs(np.einsum("mi,mj,in,jn->ij", U, X, Vh, Yh))[:k, :k]


def columns_of_Vh(A: Any, B: Any, k: int) -> Any:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.abs((U * X).sum(0)[:k] * (Vh * Yh).sum(0)[:k]).mean()


def swapped(A: Any, B: Any, k: int) -> Any:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.abs((U * X).sum(1)[:k] * (Vh * Yh).sum(0)[:k]).mean()


def rows_of_U(A: Any, B: Any, k: int) -> Any:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.abs((U * X).sum(1)[:k] * (Vh * Yh).sum(1)[:k]).mean()


BARRIERS = {
    "this is the highest loss": lambda at, losses: max(losses),
    "above the mean of the ends": lambda at, losses: losses.max() - losses[[0, -1]].mean(),
    "rises above its start": lambda at, losses: (losses - losses[0]).max(),
    "rises above the higher end": lambda at, losses: losses.max() - losses[[0, -1]].max(),
    "leaves the ends out": lambda at, losses: (losses - np.interp(at, [0, 1], losses[[0, -1]]))[1:-1].max(),
    "the middle alone": lambda at, losses: losses[at == 0.5][0] - losses[[0, -1]].mean(),
    "lie at even distances": lambda at, losses: (losses - np.linspace(losses[0], losses[-1], losses.size)).max(),
    "the size of the gap": lambda at, losses: np.abs(losses - np.interp(at, [0, 1], losses[[0, -1]])).max(),
    "the wrong way round": lambda at, losses: (losses - np.interp(at, [0, 1], losses[[-1, 0]])).max(),
    "the mean gap": lambda at, losses: (losses - np.interp(at, [0, 1], losses[[0, -1]])).mean(),
    "the line minus the loss": lambda at, losses: (np.interp(at, [0, 1], losses[[0, -1]]) - losses).max(),
    "asked is how high": lambda at, losses: at[(losses - np.interp(at, [0, 1], losses[[0, -1]])).argmax()],
    "the gaps at all points": lambda at, losses: losses - np.interp(at, [0, 1], losses[[0, -1]]),
    "returns nothing": lambda at, losses: None,
}
SCORES = {
    "a component and its negative": lambda A, B, k: (sides(A, B)[0] * sides(A, B)[1])[:k].mean(),
    "before the mean": lambda A, B, k: abs((sides(A, B)[0] * sides(A, B)[1])[:k].mean()),
    "the left singular vectors alone": lambda A, B, k: np.abs(sides(A, B)[0][:k]).mean(),
    "the right singular vectors alone": lambda A, B, k: np.abs(sides(A, B)[1][:k]).mean(),
    "the mean of both sides": lambda A, B, k: (np.abs(sides(A, B)[0]) + np.abs(sides(A, B)[1]))[:k].mean() / 2,
    "V transposed: its components are rows": columns_of_Vh,
    "rows and columns swapped": swapped,
    "components are columns of U": rows_of_U,
    "over all components": lambda A, B, k: score(A, B, None),
    "every component with every other": lambda A, B, k: block(A, B, k).mean(),
    "the one that fits best": lambda A, B, k: block(A, B, k).max(axis=1).mean(),
    "this squares": lambda A, B, k: (sides(A, B)[0] * sides(A, B)[1])[:k].__pow__(2).mean(),
    "this is the sum": lambda A, B, k: score(A, B, k) * k,
    "one by one": lambda A, B, k: np.diag(block(A, B, k)),
    "raises NameError": lambda A, B, k: svd(A),  # type: ignore[name-defined]  # noqa: F821
}
NOISE = {
    "the noise is not in proportion to the weight: divide": lambda W, E, eta: W + eta * E,
    "does not mend that": lambda W, E, eta: (W + eta * E) / np.linalg.norm(W + eta * E) * np.linalg.norm(W),
    "a norm of its own: divide": lambda W, E, eta: W + E * eta * np.linalg.norm(W),
    "the last step cannot undo": lambda W, E, eta: (
        (W / np.linalg.norm(W) + eta * E) / np.linalg.norm(W / np.linalg.norm(W) + eta * E) * np.linalg.norm(W)
    ),
    "length eta, whatever W is: multiply": lambda W, E, eta: W + eta * E / np.linalg.norm(E),
    "length eta, whatever W is, and": lambda W, E, eta: noisy(W, E, eta / np.linalg.norm(W)),
    "made the weight longer": lambda W, E, eta: W + eta * E * np.linalg.norm(W) / np.linalg.norm(E),
    "at right angles": lambda W, E, eta: (W + eta * E * np.linalg.norm(W) / np.linalg.norm(E)) / np.sqrt(1 + eta**2),
    "entry by entry": lambda W, E, eta: W * (1 + eta * E),
    "largest singular value for the norm": lambda W, E, eta: noisy(
        W, E, eta * np.linalg.norm(W, 2) / np.linalg.norm(W) * np.linalg.norm(E) / np.linalg.norm(E, 2)
    ),
    "on average only": lambda W, E, eta: noisy(W, E, eta * W.std() / np.linalg.norm(W) * np.linalg.norm(E)),
    "the noise alone": lambda W, E, eta: eta * E / np.linalg.norm(E) * np.linalg.norm(W),
    "should be shape": lambda W, E, eta: noisy(W, E, eta).ravel(),
    "other values are not": lambda W, E, eta: -noisy(W, E, eta),
}
ORDERS = {
    "still reads the old places": lambda W1, b1, W2, order: (W1[order], b1[order], W2),
    "a feature's bias stays behind": lambda W1, b1, W2, order: (W1[order], b1, W2[:, order]),
    "the biases stay behind, and": lambda W1, b1, W2, order: (W1[order], b1, W2),
    "by the order that undoes it": lambda W1, b1, W2, order: (W1[order], b1[order], W2[:, order.argsort()]),
    "puts feature i at place order[i]": lambda W1, b1, W2, order: reordered(W1, b1, W2, order.argsort()),
    "this moves its rows, which are outputs": lambda W1, b1, W2, order: (W1[order], b1[order], W2[order]),
    "this moves the inputs": lambda W1, b1, W2, order: (W1[:, order], b1[order], W2[:, order]),
    "nothing has moved": lambda W1, b1, W2, order: [W1.copy(), b1.copy(), W2.copy()],
    "return W1, b1 and W2 in the shapes they had": lambda W1, b1, W2, order: (W1[order], b1[order], W2[:, order].T),
    "(2, 4), not [(4, 3), (4,)]": lambda W1, b1, W2, order: (W1[order], b1[order]),
    "returns nothing": lambda W1, b1, W2, order: None,
}
MIDDLES = {
    "averages what the two networks say": lambda one, two, batches: lambda x: (one(x) + two(x)) / 2,
    "statistics are halfway too": lambda one, two, batches: combined([one, two], [0.5, 0.5]),
    "still those of the first network": lambda one, two, batches: averaged(one, two),
    "still those of the second network": lambda one, two, batches: averaged(two, one),
    "on the first batch alone": lambda one, two, batches: half_way(one, two, batches[:1]),
    "they are still mostly what they began with": lambda one, two, batches: seen(
        combined([one, two], [0.5, 0.5]), batches
    ),
    "they are still mostly those of the first": lambda one, two, batches: seen(averaged(one, two), batches),
    "they are still mostly those of the second": lambda one, two, batches: seen(averaged(two, one), batches),
    "this is the sum": lambda one, two, batches: reestimate(combined([one, two], [1.0, 1.0]), batches),
    "this is the first network": lambda one, two, batches: one,
    "this is the second network": lambda one, two, batches: reestimate(two, batches),
    "return a network, not Tensor": lambda one, two, batches: (one(batches[0]) + two(batches[0])) / 2,
    "return a network, not OrderedDict": lambda one, two, batches: half_way(one, two, batches).state_dict(),
    "returns nothing": lambda one, two, batches: None,
}


def averaged(one: Any, two: Any) -> Any:
    """Return the first network with the average weights, and its own statistics."""
    middle = copy.deepcopy(one)
    for parameter, other in zip(middle.parameters(), two.parameters(), strict=True):
        parameter.data = (parameter.data + other.data) / 2
    return middle


def seen(network: nn.Module, batches: Any) -> nn.Module:
    network.train()
    for batch in batches:
        network(batch)
    return network.eval()


@pytest.mark.parametrize(
    ("check", "words", "wrong"),
    [
        pytest.param(check, words, wrong, id=words)
        for check, answers in (
            (check_barrier, BARRIERS),
            (check_agreement, SCORES),
            (check_noisy, NOISE),
            (check_reordered, ORDERS),
            (check_middle, MIDDLES),
        )
        for words, wrong in answers.items()
    ],
)
def test_a_typical_mistake_is_named(check: Callable[..., Any], words: str, wrong: Callable[..., Any]) -> None:
    verdict = check(wrong)
    assert not verdict.right
    assert words in verdict.message


def test_a_function_that_changes_its_networks_is_told_so() -> None:
    def careless(one: Any, two: Any, batches: Any) -> Any:
        with torch.no_grad():
            for parameter, other in zip(one.parameters(), two.parameters(), strict=True):
                parameter.add_(other).div_(2)
        return reestimate(one, batches)

    def looking(one: Any, two: Any, batches: Any) -> Any:
        two.train()(batches[0])
        return half_way(one, two, batches)

    for wrong in (careless, looking):
        assert "changes a network it is given" in check_middle(wrong).message


MATCHED = {
    "the wrong way round": lambda *case: matched(*case)[::-1],
    "your second barrier is the first again": lambda one, two, loss, example: [between(one, two, loss)] * 2,
    "between the second network and its own copy": lambda one, two, loss, example: (
        between(one, two, loss),
        between(two, aligned(one, two, example), loss),
    ),
    "orders of its second argument": lambda one, two, loss, example: (
        between(one, two, loss),
        between(one, permuted(two, match_weights(two, one, symmetries(one, example))), loss),
    ),
    "the highest losses": lambda one, two, loss, example: [
        max(loss(combined([one, other], [1 - a, a])) for a in SHARES) for other in (two, aligned(one, two, example))
    ],
    "these are the losses halfway": lambda one, two, loss, example: [
        loss(combined([one, other], [0.5, 0.5])) for other in (two, aligned(one, two, example))
    ],
    "looks halfway only": lambda one, two, loss, example: [
        loss(combined([one, other], [0.5, 0.5])) - (loss(one) + loss(other)) / 2
        for other in (two, aligned(one, two, example))
    ],
    "how much lower": lambda *case: matched(*case)[0] - matched(*case)[1],
    "after matching alone": lambda *case: matched(*case)[1],
    "raises TypeError": lambda one, two, loss: None,
    "returns nothing": lambda one, two, loss, example: None,
}


@pytest.mark.parametrize(("words", "wrong"), MATCHED.items(), ids=list(MATCHED))
def test_a_typical_mistake_with_networks_is_named(words: str, wrong: Callable[..., Any]) -> None:
    verdict = check_matched(wrong, *made_apart())
    assert not verdict.right
    assert words in verdict.message


def own(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 1))


INPUTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(7))


def own_loss(network: nn.Module) -> float:
    with torch.no_grad():
        return float((reestimate(network, [INPUTS]).eval()(INPUTS)[:, 0] - INPUTS.prod(1)).square().mean())


def own_pair() -> tuple[nn.Module, nn.Module]:
    """Return a network and the same with its features in another order."""
    one = own(0)
    return one, permuted(one, {found: torch.arange(9).roll(2) for found in symmetries(one, INPUTS)})


def test_networks_of_ones_own_are_checked_after_those_made_for_it() -> None:
    one, mixed = own_pair()
    right = check_matched(matched, one, mixed, own_loss, INPUTS)
    assert right.right, right
    before = between(one, mixed, own_loss)
    assert before > 0.001
    assert f"between your networks the barrier is {before:.3g}, and {0:.3g} after matching" in right.message
    assert "2 places were found" in right.message
    single = check_matched(matched, nn.Linear(4, 1), nn.Linear(4, 1), own_loss, INPUTS)
    assert single.right, single
    assert "no places were found" in single.message


def test_barriers_interpolated_in_single_precision_are_right_too() -> None:
    def by_hand(one: Any, two: Any, loss: Any, example: Any) -> Any:
        def middle(other: Any, share: float) -> Any:
            network = copy.deepcopy(one)
            for parameter, its in zip(network.parameters(), other.parameters(), strict=True):
                parameter.data = torch.lerp(parameter.data, its.data, share)
            return network

        others = two, aligned(one, two, example)
        return [barrier(np.array(SHARES), np.array([loss(middle(x, a)) for a in SHARES])) for x in others]

    verdict = check_matched(by_hand, own(0), own(1), own_loss, INPUTS)
    assert verdict.right, verdict


def test_what_is_wrong_with_networks_of_ones_own_is_said() -> None:
    one, two = own_pair()
    made: Any = made_apart()[0]

    def other_here(first: Any, second: Any, loss: Any, example: Any) -> Any:
        barriers = matched(first, second, loss, example)
        return barriers if len(first) == len(made) else barriers[::-1]

    assert "the two barriers are others" in check_matched(other_here, one, two, own_loss, INPUTS).message
    draws = torch.Generator().manual_seed(0)
    restless = check_matched(matched, one, two, lambda network: torch.rand(1, generator=draws).item(), INPUTS)
    assert "of the same network: draw its examples once" in restless.message
    foreign = check_matched(matched, one, made, own_loss, INPUTS)
    assert "on your own networks: ValueError: networks differ" in foreign.message
    thin = check_matched(matched, one, two, own_loss, INPUTS[:, :2])
    assert not thin.right
    assert "on your own networks: RuntimeError" in thin.message


def test_the_barriers_of_the_made_networks_are_not_highest_at_the_same_place() -> None:
    """Else looking halfway alone would pass."""
    one, two, loss, example = made_apart()
    at = np.array(SHARES)
    gaps = [
        np.array([loss(combined([one, other], [1 - a, a])) for a in SHARES]) - ((1 - at) * loss(one) + at * loss(other))
        for other in (two, aligned(one, two, example))
    ]
    assert gaps[0].argmax() != 2
    assert gaps[0].max() > 10 * gaps[1].max() > 0
