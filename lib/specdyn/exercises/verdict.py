"""A verdict on a reader's answer: right, or what exactly is wrong with it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Mistakes = Mapping[str, Callable[..., Any]]
"""What to say of a typical mistake, and a function that makes it."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and in words why or why not; a notebook shows the words.

    >>> print(Verdict(False, "the result is twice what it should be."))
    Not yet: the result is twice what it should be.
    """

    right: bool
    message: str

    def __str__(self) -> str:
        """Return the verdict in one sentence."""
        return f"{'Right' if self.right else 'Not yet'}: {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        kind = "right" if self.right else "not-yet"
        return f'<p class="verdict {kind}" role="status">{html.escape(str(self))}</p>'


@dataclass(frozen=True)
class _Failed:
    """What came instead of a value: the error a function raised."""

    error: Exception


def judge(
    answer: Callable[..., Any],
    right: Callable[..., Any],
    cases: Mapping[str, Sequence[Any]],
    mistakes: Mistakes,
    praise: str,
) -> Verdict:
    """Compare a reader's function with the right one on named cases, and say which mistake it makes.

    The first of the ``mistakes`` that agrees with the answer in every case is named. Nothing a reader's
    function does raises an error here.

    >>> cases = {"three": [3.0], "minus two": [-2.0]}
    >>> print(judge(lambda x: x, abs, cases, {"the sign is still there.": lambda x: x}, "well done."))
    Not yet: the sign is still there.
    """
    expected = {name: right(*_copies(case)) for name, case in cases.items()}
    given = {}
    for name, case in cases.items():
        arguments = _copies(case)
        given[name] = _outcome(answer, arguments)
        if not all(_same(before, after) for before, after in zip(case, arguments, strict=True)):
            return Verdict(False, f"your function changes its input ({name}); work on a copy.")
    if all(_same(given[name], expected[name]) for name in cases):
        return Verdict(True, praise)
    for said, mistake in mistakes.items():
        made = {name: _outcome(mistake, _copies(case)) for name, case in cases.items()}
        if all(_same(given[name], made[name]) for name in cases) and not _all_failed(made):
            return Verdict(False, said)
    return Verdict(False, _first_difference(given, expected))


def _copies(case: Sequence[Any]) -> list[Any]:
    return [value.copy() if isinstance(value, np.ndarray) else value for value in case]


def _outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        with np.errstate(all="ignore"):
            value = function(*arguments)
            return value.numpy(force=True) if isinstance(value, torch.Tensor) else value
    except Exception as error:  # a reader's function may raise anything
        return _Failed(error)


def _all_failed(outcomes: Mapping[str, Any]) -> bool:
    return all(isinstance(outcome, _Failed) for outcome in outcomes.values())


def _same(a: Any, b: Any) -> bool:
    """Whether two outcomes agree: both failed, equal words, or numbers equal to six digits."""
    if isinstance(a, _Failed) or isinstance(b, _Failed):
        return isinstance(a, _Failed) and isinstance(b, _Failed)
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    try:
        x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    except (TypeError, ValueError):
        return a is b
    return x.shape == y.shape and bool(np.allclose(x, y, rtol=1e-6, atol=1e-9, equal_nan=True))


def _first_difference(given: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Say what is different in the first case that is, without giving the number away."""
    name = next(name for name in given if not _same(given[name], expected[name]))
    value, wanted = given[name], expected[name]
    if isinstance(value, _Failed):
        return f"for {name} your function raises {type(value.error).__name__}: {value.error}"
    if value is None or value is ...:
        return f"for {name} your function returns nothing; end it with return."
    if isinstance(wanted, str):
        return f"for {name} your answer is {value!r}, which is not it."
    return _wrong_number(name, value, np.asarray(wanted, dtype=float))


def _wrong_number(name: str, value: Any, wanted: Any) -> str:
    try:
        got = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return f"for {name} your function returns {type(value).__name__}, not numbers."
    if got.shape != wanted.shape:
        kind = "a single number" if wanted.ndim == 0 else f"shape {wanted.shape}"
        return f"for {name} your result has shape {got.shape}; it should be {kind}."
    if not np.isfinite(got).all():
        return f"for {name} your result holds {int((~np.isfinite(got)).sum())} NaN or infinite values."
    big, small = np.max(np.abs(got)), np.max(np.abs(wanted))
    if np.isclose(big, small):
        return f"for {name} your result is {big:.4g} at its largest, which is right; other values are not."
    return f"for {name} your result is {big:.4g} at its largest, {'more' if big > small else 'less'} than it should be."


def named(names: Iterable[str]) -> str:
    """Return names in words, in an order that does not depend on theirs.

    >>> named({"b", "a"})
    'a, b'
    """
    return ", ".join(sorted(names))


def listed(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return an answer that gives names as one that gives them in words, so that their order does not matter."""

    def in_words(*case: Any) -> Any:
        names = answer(*case)
        return names if names is None or isinstance(names, str) else named(names)

    return in_words
