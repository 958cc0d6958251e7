"""Self-checks of the chapter on linear mode connectivity. Each takes the reader's function and says what is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specdyn.exercises.verdict import Mistakes, Verdict, judge
from specdyn.interventions import combined, match_weights, permuted, reestimate, symmetries

Array = NDArray[Any]
Loss = Callable[[nn.Module], float]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where `check_matched` looks at a line."""


def check_barrier(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of shares (P,) and of the losses there (P,): the barrier on the whole line.

    >>> check_barrier(lambda at, losses: (losses - (1 - at) * losses[0] - at * losses[-1]).max())
    Right: how far the loss rises above the straight line between its ends, the ends included.
    """
    at = np.linspace(0, 1, 11)
    uneven = np.array([0.0, 0.1, 0.2, 0.4, 0.45, 0.5, 0.55, 0.6, 0.9, 1.0])
    cases = {
        "ends of different height": [at, 0.2 + 0.8 * at + 1.3 * at**0.5 * (1 - at)],
        "points that lie closer in the middle": [uneven, 1 - 0.7 * uneven + np.exp(-(((uneven - 0.42) / 0.1) ** 2))],
        "a valley": [at, 0.5 - 0.1 * at - at * (1 - at)],
    }
    praise = "how far the loss rises above the straight line between its ends, the ends included."
    return judge(_either(answer), _barrier, cases, _BARRIER_MISTAKES, praise)


def check_agreement(answer: Callable[[Array, Array, int], Any]) -> Verdict:
    """Check a function of two weights of one shape and a number k: the mean agreement of their first k components.

    >>> from specdyn.spectra import agreement, decompose
    >>> def score(A, B, k):
    ...     return agreement(*(decompose(torch.from_numpy(W)) for W in (A, B)))[:k].mean()
    >>> check_agreement(score)
    Right: both sides of a component have to agree, and its sign does not matter.
    """
    A, B, C = _array(6, 9), _array(12, 5), _array(7, 7)
    shared = 20 * _array(7, 2) @ _array(2, 7)
    cases = {
        "a 6 x 9 weight and the same with the other sign and some noise": [A, 0.3 * _array(6, 9, seed=1) - A, 3],
        "two unrelated 12 x 5 weights": [B, _array(12, 5, seed=2), 4],
        "two 7 x 7 weights with two directions in common": [shared + C, shared + _array(7, 7, seed=3), 4],
    }
    praise = "both sides of a component have to agree, and its sign does not matter."
    return judge(_either(answer), _agreement, cases, _AGREEMENT_MISTAKES, praise)


def check_noisy(answer: Callable[[Array, Array, float], Any]) -> Verdict:
    """Check a function of a weight W, noise E and a strength eta: W with noise of that strength, as long as it was.

    >>> def noisy(W, E, eta):
    ...     moved = W + eta * np.linalg.norm(W) * E / np.linalg.norm(E)
    ...     return moved * np.linalg.norm(W) / np.linalg.norm(moved)
    >>> check_noisy(noisy)
    Right: noise in proportion to the weight, and the weight as long as before.
    """
    W = _array(4, 6)
    cases = {
        "a small weight": [0.01 * W, _array(4, 6, seed=1), 0.5],
        "a large weight and strong noise": [30 * W.T, _array(6, 4, seed=2), 2.5],
        "no noise": [W, _array(4, 6, seed=3), 0.0],
    }
    praise = "noise in proportion to the weight, and the weight as long as before."
    return judge(_either(answer), _noisy, cases, _NOISY_MISTAKES, praise)


def check_reordered(answer: Callable[[Array, Array, Array, Array], Sequence[Any]]) -> Verdict:
    """Check a function of two layers and an order: (W1, b1, W2) with the hidden features in that order.

    The network is ``W2 @ relu(W1 @ x + b1)``, and has to compute what it did.

    >>> check_reordered(lambda W1, b1, W2, order: (W1[order], b1[order], W2[:, order]))
    Right: every row that gives a feature moves, and every column that reads it.
    """
    cases = {
        "3 inputs, 4 features, 2 outputs": [_array(4, 3), _array(4, seed=1), _array(2, 4), np.array([2, 0, 3, 1])],
        "5 inputs, 5 features, 5 outputs": [
            _array(5, 5),
            _array(5, seed=1),
            _array(5, 5, seed=2),
            np.array([1, 2, 4, 0, 3]),
        ],
    }
    praise = "every row that gives a feature moves, and every column that reads it."
    return judge(_in_a_row(_either(answer)), _in_a_row(_reordered), cases, _REORDERED_MISTAKES, praise)


def check_middle(answer: Callable[[nn.Module, nn.Module, list[Tensor]], nn.Module]) -> Verdict:
    """Check a function of two networks and batches of inputs: the network halfway, with statistics of its own.

    >>> check_middle(_middle)
    Right: weights halfway, and BatchNorm's statistics those of the network that they make.
    """
    one, two, batches = made_pair()
    before = [copy.deepcopy(network.state_dict()) for network in (one, two)]
    cases = {"the two networks made for this check": [one, two, batches]}
    praise = "weights halfway, and BatchNorm's statistics those of the network that they make."
    verdict = judge(_said(answer), _said(_middle), cases, _MIDDLE_MISTAKES, praise)
    if all(_unchanged(network, state) for network, state in zip((one, two), before, strict=True)):
        return verdict
    return Verdict(
        False, "your function changes a network it is given (its weights, or the statistics of BatchNorm); copy it."
    )


def check_matched(
    answer: Callable[[nn.Module, nn.Module, Loss, Any], Any], one: nn.Module, two: nn.Module, loss: Loss, example: Any
) -> Verdict:
    """Check a function of two networks, a loss and an example: the barrier at `SHARES`, before and after matching.

    It is tried on networks made for the purpose, then on the reader's own, whose barriers are in the verdict.

    >>> check_matched(_matched, *made_apart()).right
    True
    """
    verdict = judge(answer, _matched, {"the networks made for this check": list(made_apart())}, _MATCHED_MISTAKES, "")
    return _on_own_networks(answer, one, two, loss, example) if verdict.right else verdict


def made_pair() -> tuple[nn.Module, nn.Module, list[Tensor]]:
    """Return two networks with BatchNorm, whose statistics are those of their training, and batches of inputs.

    >>> len(made_pair()[2])
    3
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(2)]
        batches = [torch.randn(20, 4) + shift for shift in (0, 1, 2)]
    one, two = (reestimate(network, batches).eval() for network in networks)
    return one, two, batches


def made_apart() -> tuple[nn.Module, nn.Module, Loss, Tensor]:
    """Return two networks that compute nearly the same with features in another order, a loss and an example.

    >>> one, two, loss, example = made_apart()
    >>> [round(barrier, 2) for barrier in _matched(one, two, loss, example)]
    [0.28, 0.01]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, drift = (nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2)).double() for _ in range(2))
        inputs, order = 3 * torch.randn(64, 3).double(), torch.randperm(12)
    wanted = one(inputs).detach()
    near = combined([one, drift], [1.0, 0.6])
    for name, parameter in near.named_parameters():  # a scale between layers is what no order can match
        parameter.data *= 3 if name.startswith("0.") else 1 / 3 if name == "2.weight" else 1
    two = permuted(near, {symmetries(one, inputs)[0]: order})

    @torch.no_grad()
    def loss(network: nn.Module) -> float:
        return float((network(inputs) - wanted).square().mean())

    return one, two, loss, inputs


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def _gap(at: Array, losses: Array) -> Array:
    return np.asarray(losses - ((1 - at) * losses[0] + at * losses[-1]))


def _barrier(at: Array, losses: Array) -> float:
    return float(_gap(at, losses).max())


def _sides(A: Array, B: Array) -> tuple[Array, Array]:
    """Return the products of the left singular vectors of two matrices, and of the right ones, by component."""
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return (U * X).sum(0), (Vh * Yh).sum(1)


def _agreement(A: Array, B: Array, k: int) -> float:
    left, right = _sides(A, B)
    return float(np.abs(left * right)[:k].mean())


def _noisy(W: Array, E: Array, eta: float) -> Array:
    return _as_long(W + eta * np.linalg.norm(W) * E / np.linalg.norm(E), W)


def _as_long(W: Array, before: Array) -> Array:
    return np.asarray(W * np.linalg.norm(before) / np.linalg.norm(W))


def _reordered(W1: Array, b1: Array, W2: Array, order: Array) -> tuple[Array, Array, Array]:
    return W1[order], b1[order], W2[:, order]


def _middle(one: nn.Module, two: nn.Module, batches: list[Tensor]) -> nn.Module:
    return reestimate(combined([one, two], [0.5, 0.5]), batches)


def _losses(one: nn.Module, two: nn.Module, loss: Loss) -> Array:
    return np.array([float(loss(combined([one, two], [1 - share, share]))) for share in SHARES])


def _between(one: nn.Module, two: nn.Module, loss: Loss) -> float:
    return _barrier(np.array(SHARES), _losses(one, two, loss))


def _aligned(one: nn.Module, two: nn.Module, example: Any) -> nn.Module:
    return permuted(two, match_weights(one, two, symmetries(one, example)))


def _matched(one: nn.Module, two: nn.Module, loss: Loss, example: Any) -> tuple[float, float]:
    return _between(one, two, loss), _between(one, _aligned(one, two, example), loss)


# --- forms in which an answer may come ---------------------------------------------------------------------


def _either(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return an answer that is given tensors where it does not take arrays."""

    def tried(*case: Any) -> Any:
        try:
            return answer(*case)
        except (TypeError, AttributeError) as refused:
            tensors = [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in case]
            try:
                return answer(*tensors)
            except Exception:  # what was wrong with arrays is what the reader should hear of
                raise refused from None

    return tried


def _in_a_row(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return an answer of three arrays as one that gives all their entries in a row."""

    def in_a_row(W1: Array, b1: Array, W2: Array, order: Array) -> Any:
        parts = answer(W1, b1, W2, order)
        if parts is None or parts is ...:
            return None
        shapes = [np.shape(part) for part in parts]
        if shapes != [W1.shape, b1.shape, W2.shape]:
            asked = ", ".join(str(part.shape) for part in (W1, b1, W2))
            raise ValueError(f"return W1, b1 and W2 in the shapes they had, {asked}, not {shapes}")
        return np.concatenate([np.ravel(part) for part in parts])

    return in_a_row


def _said(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return an answer that gives a network, or another function, as one that gives what it makes of inputs."""

    @torch.no_grad()
    def said(one: nn.Module, two: nn.Module, batches: list[Tensor]) -> Any:
        network = answer(one, two, batches)
        if network is None or network is ...:
            return None
        if not callable(network):
            raise TypeError(f"return a network, not {type(network).__name__}")
        if isinstance(network, nn.Module):
            network.eval()
        return np.asarray(network(batches[0]))

    return said


def _unchanged(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


# --- mistakes, and what to say of them ---------------------------------------------------------------------

_BARRIER_MISTAKES: Mistakes = {
    "this is the highest loss. Subtract the straight line between the ends.": lambda at, losses: losses.max(),
    "this is how far the highest loss lies above the mean of the ends. The line is at another height at every share.": (
        lambda at, losses: losses.max() - (losses[0] + losses[-1]) / 2
    ),
    "this is how far the loss rises above its start. The line goes from the loss of one end to that of the other.": (
        lambda at, losses: losses.max() - losses[0]
    ),
    "this is how far the loss rises above the higher end, which asks less of a slope than the line does.": (
        lambda at, losses: losses.max() - max(losses[0], losses[-1])
    ),
    "this leaves the ends out, as the official code does: in a valley it is below zero. On the whole line the ends "
    "count too, and there the gap is 0.": lambda at, losses: _gap(at, losses)[1:-1].max(),
    "this looks at the middle alone. The gap may be largest elsewhere.": lambda at, losses: np.interp(
        0.5, at, _gap(at, losses)
    ),
    "this takes the points to lie at even distances. Where the line is, `at` says.": lambda at, losses: (
        losses - np.linspace(losses[0], losses[-1], len(losses))
    ).max(),
    "this takes the size of the gap. Where the loss is below the line there is no barrier.": lambda at, losses: np.abs(
        _gap(at, losses)
    ).max(),
    "the shares are the wrong way round: at 0 there is all of the first network.": lambda at, losses: _gap(
        1 - at, losses
    ).max(),
    "this is the mean gap; asked is the largest.": lambda at, losses: _gap(at, losses).mean(),
    "this is the line minus the loss; the other way round.": lambda at, losses: (-_gap(at, losses)).max(),
    "this is where the barrier is; asked is how high.": lambda at, losses: at[_gap(at, losses).argmax()],
    "these are the gaps at all points; asked is the largest.": _gap,
}

_AGREEMENT_MISTAKES: Mistakes = {
    "a component and its negative count as the same direction: take the absolute value of each product.": (
        lambda A, B, k: np.prod(_sides(A, B), axis=0)[:k].mean()
    ),
    "take the absolute value before the mean. Components of opposite sign cancel here.": lambda A, B, k: abs(
        np.prod(_sides(A, B), axis=0)[:k].mean()
    ),
    "this compares the left singular vectors alone, what a layer writes. Multiply by the products of the right ones.": (
        lambda A, B, k: np.abs(_sides(A, B)[0])[:k].mean()
    ),
    "this compares the right singular vectors alone, what a layer reads. Multiply by the products of the left ones.": (
        lambda A, B, k: np.abs(_sides(A, B)[1])[:k].mean()
    ),
    "this is the mean of both sides. A component agrees if both do: multiply.": lambda A, B, k: np.abs(_sides(A, B))[
        :, :k
    ].mean(),
    "svd returns V transposed: its components are rows. This takes columns.": lambda A, B, k: _by(A, B, k, 0, 0),
    "this has rows and columns swapped: components are columns of U and rows of the third matrix.": (
        lambda A, B, k: _by(A, B, k, 1, 0)
    ),
    "components are columns of U. This takes rows.": lambda A, B, k: _by(A, B, k, 1, 1),
    "this is the mean over all components; asked are the first k.": lambda A, B, k: _agreement(A, B, min(A.shape)),
    "this compares every component with every other. Component j has to agree with component j.": lambda A, B, k: (
        _block(A, B, k).mean()
    ),
    "this takes for each component the one that fits best. Then they need not be in the same order; asked is j with "
    "j.": lambda A, B, k: _block(A, B, k).max(1).mean(),
    "this squares; take absolute values.": lambda A, B, k: (np.prod(_sides(A, B), axis=0)[:k] ** 2).mean(),
    "this is the sum; asked is the mean.": lambda A, B, k: _agreement(A, B, k) * k,
    "these are the agreements of the components one by one; asked is their mean.": lambda A, B, k: np.abs(
        np.prod(_sides(A, B), axis=0)
    )[:k],
}


def _by(A: Array, B: Array, k: int, left: int, right: int) -> Any:
    """Return the score where sums run over these axes of U and of the third matrix, 0 and 1 being the right ones."""
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.abs((U * X).sum(left)[:k] * (Vh * Yh).sum(right)[:k]).mean()


def _block(A: Array, B: Array, k: int) -> Array:
    (U, _, Vh), (X, _, Yh) = (np.linalg.svd(W, full_matrices=False) for W in (A, B))
    return np.asarray(np.abs((U[:, :k].T @ X[:, :k]) * (Vh[:k] @ Yh[:k].T)))


_NOISY_MISTAKES: Mistakes = {
    "the noise is not in proportion to the weight: divide it by its own norm and multiply by that of W.": (
        lambda W, E, eta: W + eta * E
    ),
    "the noise is not in proportion to the weight. To bring the sum back to its norm does not mend that.": (
        lambda W, E, eta: _as_long(W + eta * E, W)
    ),
    "the noise has a norm of its own: divide by it.": lambda W, E, eta: W + eta * np.linalg.norm(W) * E,
    "the noise has a norm of its own, which the last step cannot undo: divide by it.": lambda W, E, eta: _as_long(
        W + eta * np.linalg.norm(W) * E, W
    ),
    "the noise has length eta, whatever W is: multiply by the norm of W.": lambda W, E, eta: (
        W + eta * E / np.linalg.norm(E)
    ),
    "the noise has length eta, whatever W is, and to bring the sum back to its norm does not mend that.": (
        lambda W, E, eta: _as_long(W + eta * E / np.linalg.norm(E), W)
    ),
    "noise made the weight longer. Bring the sum back to the norm of W, or you change its size as well.": (
        lambda W, E, eta: W + eta * np.linalg.norm(W) * E / np.linalg.norm(E)
    ),
    "noise of this length is divided by sqrt(1 + eta^2), which is its length only if noise and weight are at right "
    "angles. Divide by the norm that the sum has.": lambda W, E, eta: (
        (W + eta * np.linalg.norm(W) * E / np.linalg.norm(E)) / (1 + eta**2) ** 0.5
    ),
    "this multiplies noise and weight entry by entry, so small weights get little of it.": lambda W, E, eta: (
        W + eta * W * E
    ),
    "this takes the largest singular value for the norm. Asked is the Frobenius norm, np.linalg.norm(W).": (
        lambda W, E, eta: _as_long(W + eta * np.linalg.norm(W, 2) * E / np.linalg.norm(E, 2), W)
    ),
    "this scales by the spread of the weights, which gives noise of that length on average only.": lambda W, E, eta: (
        _as_long(W + eta * W.std() * E, W)
    ),
    "this is the noise alone.": lambda W, E, eta: eta * np.linalg.norm(W) * E / np.linalg.norm(E),
}

_REORDERED_MISTAKES: Mistakes = {
    "the second layer still reads the old places: its columns have to move as well.": lambda W1, b1, W2, order: _joined(
        W1[order], b1[order], W2
    ),
    "a feature's bias stays behind.": lambda W1, b1, W2, order: _joined(W1[order], b1, W2[:, order]),
    "the biases stay behind, and the second layer reads the old places.": lambda W1, b1, W2, order: _joined(
        W1[order], b1, W2
    ),
    "in the second layer features are columns; this moves its rows, which are outputs.": lambda W1, b1, W2, order: (
        _joined(W1[order], b1[order], W2[order])
    ),
    "this moves the columns of the second layer by the order that undoes it. They stand for the same features: move "
    "them by the same order.": lambda W1, b1, W2, order: _joined(W1[order], b1[order], W2[:, np.argsort(order)]),
    "the network is the same, but its features stand elsewhere: this puts feature i at place order[i]. Asked is "
    "feature order[i] at place i.": lambda W1, b1, W2, order: _joined(*_reordered(W1, b1, W2, np.argsort(order))),
    "this moves the inputs. Features of the hidden layer are the rows of W1.": lambda W1, b1, W2, order: _joined(
        W1[:, order], b1[order], W2[:, order]
    ),
    "nothing has moved.": lambda W1, b1, W2, order: _joined(W1, b1, W2),
}


def _joined(*parts: Array) -> Array:
    return np.concatenate([part.ravel() for part in parts])


def _with_statistics(one: nn.Module, two: nn.Module, batches: list[Tensor], source: nn.Module) -> Array:
    """Return what the middle says with the statistics of another network."""
    middle = combined([one, two], [0.5, 0.5])
    middle.load_state_dict({name: buffer for name, buffer in source.named_buffers()}, strict=False)
    return _outputs(middle, batches)


def _outputs(network: nn.Module, batches: list[Tensor]) -> Array:
    with torch.no_grad():
        return np.asarray(network.eval()(batches[0]))


def _momentum(one: nn.Module, two: nn.Module, batches: list[Tensor], start: nn.Module) -> Array:
    """Return what the middle says after batches in training mode, its statistics beginning with those of a network."""
    middle = combined([one, two], [0.5, 0.5])
    middle.load_state_dict({name: buffer for name, buffer in start.named_buffers()}, strict=False)
    middle.train()
    with torch.no_grad():
        for batch in batches:
            middle(batch)
    return _outputs(middle, batches)


_MIDDLE_MISTAKES: Mistakes = {
    "this averages what the two networks say. Asked is one network, with the averages of their weights.": (
        lambda one, two, batches: (_outputs(one, batches) + _outputs(two, batches)) / 2
    ),
    "BatchNorm's statistics are halfway too, and fit neither network nor the one between: estimate them again on the "
    "batches.": lambda one, two, batches: _outputs(combined([one, two], [0.5, 0.5]), batches),
    "BatchNorm's statistics are still those of the first network: estimate them again on the batches.": (
        lambda one, two, batches: _with_statistics(one, two, batches, one)
    ),
    "BatchNorm's statistics are still those of the second network: estimate them again on the batches.": (
        lambda one, two, batches: _with_statistics(one, two, batches, two)
    ),
    "running averages forget their start slowly: after three batches they are still mostly what they began with. Use "
    "specdyn.interventions.reestimate, which begins anew.": lambda one, two, batches: _momentum(
        one, two, batches, combined([one, two], [0.5, 0.5])
    ),
    "running averages forget their start slowly: after three batches they are still mostly those of the first network. "
    "Use specdyn.interventions.reestimate, which begins anew.": lambda one, two, batches: _momentum(
        one, two, batches, one
    ),
    "running averages forget their start slowly: after three batches they are still mostly those of the second "
    "network. Use specdyn.interventions.reestimate, which begins anew.": lambda one, two, batches: _momentum(
        one, two, batches, two
    ),
    "this estimates the statistics on the first batch alone. Use all of them.": lambda one, two, batches: _outputs(
        reestimate(combined([one, two], [0.5, 0.5]), batches[:1]), batches
    ),
    "this is the sum of the weights, not half of it.": lambda one, two, batches: _outputs(
        reestimate(combined([one, two], [1, 1]), batches), batches
    ),
    "this is the first network.": lambda one, two, batches: _outputs(one, batches),
    "this is the second network.": lambda one, two, batches: _outputs(two, batches),
}

_MATCHED_MISTAKES: Mistakes = {
    "the two barriers are the wrong way round: before, then after matching.": lambda *case: _matched(*case)[::-1],
    "your second barrier is the first again: put the second network's features into the orders that match_weights "
    "returns (permuted returns a copy).": lambda one, two, loss, example: (_between(one, two, loss),) * 2,
    "your second barrier is that between the second network and its own copy in another order. Measure it from the "
    "first network.": lambda one, two, loss, example: (
        _between(one, two, loss),
        _between(two, _aligned(one, two, example), loss),
    ),
    "match_weights(one, two, ...) returns orders of its second argument: give them to the network you named second.": (
        lambda one, two, loss, example: (
            _between(one, two, loss),
            _between(one, permuted(two, match_weights(two, one, symmetries(one, example))), loss),
        )
    ),
    "these are the highest losses. Subtract the straight line between the losses of the ends.": (
        lambda one, two, loss, example: (
            _losses(one, two, loss).max(),
            _losses(one, _aligned(one, two, example), loss).max(),
        )
    ),
    "these are the losses halfway. Subtract the straight line between the losses of the ends, and look at all five "
    "shares.": lambda one, two, loss, example: (
        _losses(one, two, loss)[2],
        _losses(one, _aligned(one, two, example), loss)[2],
    ),
    "this looks halfway only; the gap may be largest elsewhere. Look at all five shares.": (
        lambda one, two, loss, example: tuple(
            _gap(np.array(SHARES), _losses(one, other, loss))[2] for other in (two, _aligned(one, two, example))
        )
    ),
    "this is how much lower the barrier is after matching; asked are both barriers.": lambda *case: np.subtract(
        *_matched(*case)
    ),
    "this is the barrier after matching alone; asked are both.": lambda *case: _matched(*case)[1],
}


# --- the reader's own networks -----------------------------------------------------------------------------


def _on_own_networks(answer: Callable[..., Any], one: nn.Module, two: nn.Module, loss: Loss, example: Any) -> Verdict:
    try:
        if (first := float(loss(one))) != (again := float(loss(one))):
            said = f"your loss says {first:.4g} and {again:.4g} of the same network: draw its examples once, outside."
            return Verdict(False, said)
        wanted = _matched(one, two, loss, example)
        given = np.asarray(answer(one, two, loss, example), dtype=float)
    except Exception as error:  # the networks are the reader's, and so are the functions
        return Verdict(False, f"on your own networks: {type(error).__name__}: {error}")
    if given.shape != (2,) or not np.allclose(given, wanted, rtol=1e-4, atol=1e-6):
        return Verdict(False, "on your own networks the two barriers are others.")
    before, after = wanted
    layers = len(symmetries(one, example))
    return Verdict(
        True,
        f"between your networks the barrier is {before:.3g}, and {after:.3g} after matching, for which "
        f"{layers or 'no'} {'place was' if layers == 1 else 'places were'} found where features may change order.",
    )
