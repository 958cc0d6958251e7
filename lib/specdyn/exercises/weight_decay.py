"""Self-checks of the chapter on weight decay. Each takes the reader's function and says what is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specdyn.exercises.verdict import Mistakes, Verdict, judge, listed, named
from specdyn.spectra import effective_rank, matrices

Array = NDArray[Any]


def check_share_left(answer: Callable[[Array, float], Any]) -> Verdict:
    """Check a function of learning rates and a decay: what AdamW leaves of a weight that gets no gradient.

    >>> check_share_left(lambda rates, decay: np.prod(1 - rates * decay))
    Right: a factor for every step, and the learning rate in each of them.
    """
    cases = {
        "a rate that drops": [np.array([0.1, 0.1, 0.1, 0.01]), 1.5],
        "a rate that warms up": [np.array([0.02, 0.04, 0.06, 0.06, 0.06]), 4.0],
    }
    praise = "a factor for every step, and the learning rate in each of them."
    return judge(answer, _share_left, cases, _SHARE_LEFT_MISTAKES, praise)


def check_shrink(answer: Callable[[Array, str, float], Any]) -> Verdict:
    """Check a function of singular values, a penalty and an amount: what one step of the penalty makes of them.

    >>> check_shrink(lambda s, penalty, c: np.maximum(s - c, 0) if penalty == "nuclear" else (1 - c) * s)
    Right: the same share of each, or the same amount. Only one of the two changes their proportions.
    """
    s = np.array([3.0, 1.2, 0.25, 0.1])
    cases = {
        "the Frobenius norm": [s, "Frobenius", 0.2],
        "the nuclear norm": [s, "nuclear", 0.2],
        "the nuclear norm, a large amount": [s, "nuclear", 2.0],
    }
    praise = "the same share of each, or the same amount. Only one of the two changes their proportions."
    return judge(answer, _shrink, cases, _SHRINK_MISTAKES, praise)


def check_channel_rank(answer: Callable[[Array], Any]) -> Verdict:
    """Check a function of a convolution's weight: its effective rank with every output channel scaled to length 1.

    >>> check_channel_rank(_channel_rank)
    Right: what is left is the directions of the channels, not how loud they are.
    """
    loud = _array(6, 3, 3, 3) * np.array([100, 1, 1, 1, 1e-3, 1e-3])[:, None, None, None]
    silent = _array(4, 6, 3, 3) * np.array([1, 0, 2, 1])[:, None, None, None]
    cases = {"channels of different length": [loud], "a channel that is zero": [silent]}
    praise = "what is left is the directions of the channels, not how loud they are."
    return judge(answer, _channel_rank, cases, _CHANNEL_RANK_MISTAKES, praise)


def check_twin_rates(answer: Callable[[Array, Array], Any]) -> Verdict:
    """Check a function of learning rates and of what is left after each step: the learning rates of the twin.

    ``left`` has one entry more than there are rates, and begins with 1.

    >>> check_twin_rates(lambda rates, left: rates / (left[:-1] * left[1:]))
    Right: without decay, and the same network at every step.
    """
    cases = {
        "a constant rate": [np.full(4, 0.1), 0.9 ** np.arange(5)],
        "a rate that drops": [np.array([0.2, 0.2, 0.02]), np.array([1.0, 0.8, 0.6, 0.55])],
    }
    praise = "without decay, and the same network at every step."
    return judge(answer, _twin_rates, cases, _TWIN_RATES_MISTAKES, praise)


def check_free(answer: Callable[[nn.Module, Tensor], Iterable[str]], model: nn.Module, inputs: Tensor) -> Verdict:
    """Check a function of a model and inputs: the names of the matrices whose scale makes no difference in training.

    It is tried on a network made for the purpose, then on the reader's own, whose names are in the verdict.
    The reader's network has to give one tensor.

    >>> check_free(_free, *made_network()).right
    True
    """
    made, examples = made_network()
    cases = {"the network made for this check": [made, examples]}
    before = copy.deepcopy(made.state_dict())
    verdict = judge(listed(answer), listed(_free), cases, _FREE_MISTAKES, "")
    if not _same_weights(before, made):
        return Verdict(False, "your function changes the weights of the network it is given; double those of a copy.")
    return _on_own_network(answer, model, inputs) if verdict.right else verdict


def made_network() -> tuple[nn.Module, Tensor]:
    """Return a network in which two of five matrices have a normalisation right behind them, and inputs for it.

    >>> len(list(matrices(made_network()[0])))
    5
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(16, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3),
        )  # fmt: skip
        return network, torch.randn(6, 1, 6, 6)


# --- right answers -----------------------------------------------------------------------------------------


def _array(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _share_left(rates: Array, decay: float) -> float:
    return float(np.prod(1 - rates * decay))


def _shrink(s: Array, penalty: str, amount: float) -> Array:
    return np.maximum(s - amount, 0.0) if penalty == "nuclear" else (1 - amount) * s


def _rank(W: Array) -> float:
    return float(np.mean(effective_rank(np.linalg.svd(W, compute_uv=False))))


def _unit(W: Array, axis: int) -> Array:
    length = np.linalg.norm(W, axis=axis, keepdims=True)
    return np.asarray(W / np.where(length > 0, length, 1))


def _channel_rank(weight: Array) -> float:
    return _rank(_unit(weight.reshape(len(weight), -1), axis=1))


def _twin_rates(rates: Array, left: Array) -> Array:
    return np.asarray(rates / (left[:-1] * left[1:]))


def _free(model: nn.Module, inputs: Tensor, *, training: bool = True) -> list[str]:
    return [name for name in _doubled(model) if _stays(model, inputs, name, training)]


@torch.no_grad()
def _stays(model: nn.Module, inputs: Tensor, name: str, training: bool) -> bool:
    """Whether the output stays when a weight is doubled, but for what a normalisation adds before it divides."""
    first, second = copy.deepcopy(model).train(training), copy.deepcopy(model).train(training)
    second.get_parameter(name).mul_(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout, if there is any, is the same in both
        before = first(inputs)
        torch.manual_seed(0)
        after = second(inputs)
    return bool((after - before).norm() <= 0.01 * before.norm())


def _doubled(model: nn.Module) -> list[str]:
    return [matrix.name for matrix in matrices(model) if matrix.stored is not None]


# --- mistakes, and what to say of them ---------------------------------------------------------------------

_SHARE_LEFT_MISTAKES: Mistakes = {
    "this is the exponential of a sum, which is nearly it where the steps are small. Multiply the factors.": (
        lambda rates, decay: np.exp(-rates.sum() * decay)
    ),
    "this adds up what is taken as if each step took its share of the first value. It takes it of what is left.": (
        lambda rates, decay: 1 - rates.sum() * decay
    ),
    "the learning rate is missing: AdamW multiplies by 1 minus learning rate times decay.": lambda rates, decay: (
        (1 - decay) ** len(rates)
    ),
    "this takes the first learning rate for all steps.": lambda rates, decay: (1 - rates[0] * decay) ** len(rates),
    "this takes the mean learning rate for all steps.": lambda rates, decay: (1 - rates.mean() * decay) ** len(rates),
    "this is what is gone; asked is what is left.": lambda rates, decay: 1 - _share_left(rates, decay),
    "this is what is left after every step; asked is what is left at the end.": lambda rates, decay: np.cumprod(
        1 - rates * decay
    ),
}

_SHRINK_MISTAKES: Mistakes = {
    "singular values cannot be negative: what the nuclear norm takes stops at zero.": lambda s, penalty, c: (
        s - c if penalty == "nuclear" else (1 - c) * s
    ),
    "this takes the same share of each for both. The gradient of the sum of the singular values is 1 for each of them, "
    "however large.": lambda s, penalty, c: (1 - c) * s,
    "this takes the same amount of each for both. The gradient of half the squared Frobenius norm is the matrix, so "
    "it takes a share.": lambda s, penalty, c: np.maximum(s - c, 0),
    "you have them the wrong way round.": lambda s, penalty, c: _shrink(
        s, "Frobenius" if penalty == "nuclear" else "nuclear", c
    ),
    "this drops what lies below the amount and leaves the rest as it is. The nuclear norm takes from every one.": (
        lambda s, penalty, c: np.where(s > c, s, 0) if penalty == "nuclear" else (1 - c) * s
    ),
    "this is what is taken away; asked is what is left.": lambda s, penalty, c: s - _shrink(s, penalty, c),
}

_CHANNEL_RANK_MISTAKES: Mistakes = {
    "the lengths of the channels are still in it. One factor for the whole matrix changes nothing: give each output "
    "channel its own.": lambda w: _rank(w.reshape(len(w), -1)),
    "a channel that is zero has no direction: leave it as it is instead of dividing by zero.": lambda w: _rank(
        w.reshape(len(w), -1) / np.linalg.norm(w.reshape(len(w), -1), axis=1, keepdims=True)
    ),
    "this scales the columns, which are the inputs. A row is an output channel.": lambda w: _rank(
        _unit(w.reshape(len(w), -1), axis=0)
    ),
    "this scales each small kernel by itself. All that one output channel reads gets one factor.": lambda w: _rank(
        (w / np.maximum(np.linalg.norm(w, axis=(2, 3), keepdims=True), 1e-300)).reshape(len(w), -1)
    ),
    "this divides each channel by the square of its length.": lambda w: _rank(
        _unit(w.reshape(len(w), -1), 1) / np.maximum(np.linalg.norm(w.reshape(len(w), -1), axis=1)[:, None], 1e-300)
    ),
    "this leaves out the channels that are zero. They are directions that are not used, and count as such.": (
        lambda w: _rank(_unit(w.reshape(len(w), -1), 1)[np.linalg.norm(w.reshape(len(w), -1), axis=1) > 0])
    ),
}

_TWIN_RATES_MISTAKES: Mistakes = {
    "these are the rates of the network with decay, unchanged.": lambda rates, left: rates,
    "one factor is for the weight that grows; a second is for its gradient, which falls as the weight grows.": (
        lambda rates, left: rates / left[1:]
    ),
    "one factor is for the weight that grows, at the end of the step. The other is for its gradient, at the start.": (
        lambda rates, left: rates / left[:-1]
    ),
    "the step begins with one share and ends with the next: it takes one of each, not twice the later one.": (
        lambda rates, left: rates / left[1:] ** 2
    ),
    "the step begins with one share and ends with the next: it takes one of each, not twice the earlier one.": (
        lambda rates, left: rates / left[:-1] ** 2
    ),
    "this makes the rates smaller. The twin's weights are larger, so it needs larger steps.": lambda rates, left: (
        rates * left[:-1] * left[1:]
    ),
    "there is a rate for every step, and one share more than there are steps.": lambda rates, left: (
        np.append(rates, rates[-1]) / left**2
    ),
}

_FREE_MISTAKES: Mistakes = {
    "this looks at the network in evaluation mode, where BatchNorm divides by a spread that it remembers. Call "
    "model.train() on your copies.": lambda model, inputs: named(_free(model, inputs, training=False)),
    "these are all the matrices.": lambda model, inputs: named(_doubled(model)),
    "these are the others: the matrices whose scale does make a difference.": lambda model, inputs: named(
        set(_doubled(model)) - set(_free(model, inputs))
    ),
    "you find none. Outputs will differ in their last digits, and by what a normalisation adds before it divides: "
    "allow for a difference of a hundredth.": lambda model, inputs: "",
    "this goes by the layer that comes next and knows one kind of normalisation only; double the weight and look.": (
        lambda model, inputs: named(_free(model, inputs)[:1])
    ),
    "these are the normalisation layers; asked are the matrices before them.": lambda model, inputs: named(
        name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm)
    ),
}


def _same_weights(before: dict[str, Any], model: nn.Module) -> bool:
    trained = dict(model.named_parameters())
    return all(torch.equal(before[name], tensor) for name, tensor in trained.items())


# --- the reader's own network ------------------------------------------------------------------------------


def _on_own_network(answer: Callable[[nn.Module, Tensor], Iterable[str]], model: nn.Module, inputs: Tensor) -> Verdict:
    try:
        given, wanted, known = set(answer(model, inputs)), set(_free(model, inputs)), _doubled(model)
    except Exception as error:  # the network is the reader's, and so is the function
        return Verdict(False, f"on your own network: {type(error).__name__}: {error}")
    if unknown := given - set(known):
        return Verdict(False, f"your network has no matrix {min(unknown)!r}; it has {', '.join(known)}.")
    if given != wanted:
        return Verdict(False, f"on your own network {_difference(sorted(given ^ wanted), given)}.")
    said = f"{len(wanted)} of {len(known)} matrices"
    return Verdict(True, f"in your network the scale makes no difference in {said}: {named(wanted) or 'none'}.")


def _difference(wrong: Sequence[str], given: set[str]) -> str:
    return f"{wrong[0]} {'does not belong' if wrong[0] in given else 'is missing'}"
