"""Where in a tensor the outputs of matrices lie, and what becomes of them when it is reshaped or joined."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple


class Source(NamedTuple):
    """The outputs of a matrix from number ``start`` on; ``skip`` if they came past later layers.

    >>> Source("fc.weight", 0).skip
    False
    """

    matrix: str
    start: int
    skip: bool = False


@dataclass(frozen=True)
class Run:
    """Features in a row that come from the same places; ``unclear`` says what else may have come in.

    ``width`` is ``None`` for an input of the network, whose size only its reader knows.

    >>> Run(4, frozenset({Source("fc.weight", 0)})).part(1, 3).sources
    frozenset({Source(matrix='fc.weight', start=1, skip=False)})
    """

    width: int | None
    sources: frozenset[Source] = frozenset()
    unclear: frozenset[str] = frozenset()

    def part(self, low: int, high: int) -> "Run":
        """Return the features from ``low`` up to ``high`` of the run."""
        moved = frozenset(s._replace(start=s.start + low) for s in self.sources)
        return replace(self, width=high - low, sources=moved)


@dataclass(frozen=True)
class Lost:
    """A tensor in which the outputs of matrices arrive, nobody can say where; and why not.

    >>> Lost.because("sorted").reasons
    frozenset({'sorted'})
    """

    reasons: frozenset[str]

    @classmethod
    def because(cls, reason: str) -> "Lost":
        """Make one from a single reason."""
        return cls(frozenset({reason}))


@dataclass(frozen=True)
class Features:
    """A tensor with the outputs of matrices along some of its axes.

    The features are laid out in ``sizes``: ``(256,)``, or ``(8, 32)`` once they are split into 8 heads.
    ``axes`` says of every axis of the tensor which of these sizes lies along it, ``None`` for other things
    (examples, tokens, pixels). ``flat`` tensors have every feature's positions right after it, as a kernel
    map has when it is flattened.

    >>> x = Features((Run(6, frozenset({Source("q.weight", 0)})),), (6,), (None, None, 0))
    >>> heads = x.view([None, None, 2, 3]).permute([0, 2, 1, 3])
    >>> heads.sizes, heads.axes
    ((2, 3), (None, 0, None, 1))
    """

    runs: tuple[Run, ...]
    sizes: tuple[int | None, ...]
    axes: tuple[int | None, ...]
    flat: bool = False

    @property
    def width(self) -> int | None:
        """The number of features, if every run knows its own."""
        return total(self.runs)

    @property
    def sources(self) -> frozenset[Source]:
        """Everything that arrives."""
        return frozenset[Source]().union(*(run.sources for run in self.runs))

    @property
    def reasons(self) -> frozenset[str]:
        """Why something else may have come in."""
        return frozenset[str]().union(*(run.unclear for run in self.runs))

    def lost(self, reason: str) -> Lost:
        """Give up following, and say why."""
        return Lost(self.reasons | {reason})

    def axis(self, index: int) -> int:
        """Return an axis counted from the front."""
        return index + len(self.axes) if index < 0 else index

    def along(self, index: int) -> int | None:
        """Return which of ``sizes`` lies along an axis; ``None`` also where there is no such axis."""
        index = self.axis(index)
        return self.axes[index] if 0 <= index < len(self.axes) else None

    def permute(self, order: Sequence[int]) -> "Features | Lost":
        """Return the tensor with its axes in another order."""
        order = [self.axis(index) for index in order]
        if sorted(order) != list(range(len(self.axes))):
            return self.lost(f"permuted as {order}, which does not fit the {len(self.axes)} axes it seems to have")
        return replace(self, axes=tuple(self.axes[index] for index in order))

    def transpose(self, first: int, second: int) -> "Features | Lost":
        """Return the tensor with two axes exchanged."""
        order = list(range(len(self.axes)))
        first, second = self.axis(first), self.axis(second)
        if max(first, second) >= len(order):
            return self.lost(f"axes {first} and {second} exchanged, of the {len(order)} it seems to have")
        order[first], order[second] = order[second], order[first]
        return self.permute(order)

    def insert(self, index: int) -> "Features":
        """Return the tensor with a new axis at ``index``."""
        index = index + len(self.axes) + 1 if index < 0 else index
        return replace(self, axes=(*self.axes[:index], None, *self.axes[index:]))

    def drop(self, index: int) -> "Features | None":
        """Return the tensor without one axis: nothing if the features lay along it."""
        index = self.axis(index)
        if self.along(index) is not None:
            return None
        return replace(self, axes=(*self.axes[:index], *self.axes[index + 1 :]))

    def cut(self, index: int, low: int, high: int) -> "Features | Lost":
        """Return what lies from ``low`` up to ``high`` along an axis of features."""
        factor = self.along(index)
        if factor is None:
            return self
        size = self.sizes[factor]
        if factor or size is None or self.flat:
            return self.lost("only some of the features of every group are taken")
        each = prod(other or 1 for other in self.sizes[1:])
        runs = part(self.runs, low * each, high * each)
        return replace(self, runs=runs, sizes=(high - low, *self.sizes[1:]))

    def pick(self, index: int, place: int) -> "Features | Lost | None":
        """Return what lies at one place of an axis, without the axis."""
        factor = self.along(index)
        if factor is None or len(self.sizes) == 1:
            return self.drop(index)
        size = self.sizes[factor] or 0
        place = place + size if place < 0 else place
        taken = self.cut(index, place, place + 1)
        if isinstance(taken, Lost):
            return taken
        axes = tuple(None if axis is None else axis - 1 for at, axis in enumerate(taken.axes) if at != self.axis(index))
        return replace(taken, sizes=taken.sizes[1:], axes=axes)

    def view(self, target: Sequence[int | None]) -> "Features | Lost":
        """Return the tensor in another shape; ``None`` stands for a size that is not known, or -1."""
        where = [at for at, axis in enumerate(self.axes) if axis is not None]
        width = self.width
        if width is None or self.flat or [self.axes[at] for at in where] != list(range(len(self.sizes))):
            return self.lost("reshaped so that features and positions mix")
        if where[-1] - where[0] != len(where) - 1:
            return self.lost("reshaped so that features and positions mix")
        before, after = where[0], len(self.axes) - where[-1] - 1
        if after and len(target) == before + 1 and target[-1] != width:
            axes = (*[None] * before, 0)
            return replace(self, sizes=(width,), axes=axes, flat=True)
        found = _window(target, width, before, after)
        if found is None:
            shape = ", ".join("?" if size is None else str(size) for size in target)
            return self.lost(f"reshaped to ({shape}), where {width} features cannot be told")
        low, sizes = found
        axes = (*[None] * low, *range(len(sizes)), *[None] * (len(target) - low - len(sizes)))
        return replace(self, sizes=tuple(sizes), axes=axes)

    def flatten(self, first: int, last: int) -> "Features | Lost":
        """Return the tensor with the axes from ``first`` to ``last`` made one."""
        first, last = self.axis(first), self.axis(last)
        inside = self.axes[first : last + 1]
        if all(axis is None for axis in inside):
            return replace(self, axes=(*self.axes[:first], None, *self.axes[last + 1 :]))
        if len(inside) == 1:
            return self
        if inside[0] == 0 and inside == (0, *[None] * (last - first)) and len(self.sizes) == 1:
            return replace(self, axes=(*self.axes[:first], 0, *self.axes[last + 1 :]), flat=True)
        if inside == tuple(range(len(self.sizes))) and self.width is not None:
            return replace(self, sizes=(self.width,), axes=(*self.axes[:first], 0, *self.axes[last + 1 :]))
        return self.lost("flattened so that features and positions mix")

    def unflatten(self, index: int, sizes: Sequence[int | None]) -> "Features | Lost":
        """Return the tensor with one axis made several."""
        index = self.axis(index)
        if self.along(index) is None:
            return replace(self, axes=(*self.axes[:index], *[None] * len(sizes), *self.axes[index + 1 :]))
        found = _window(sizes, self.width, 0, 0) if self.width is not None and len(self.sizes) == 1 else None
        if found is None or self.flat:
            return self.lost("unflattened so that features cannot be told")
        axes = (*self.axes[:index], *range(len(found[1])), *self.axes[index + 1 :])
        return replace(self, sizes=tuple(found[1]), axes=axes)

    def skipping(self) -> "Features":
        """Return the same features as they arrive through a skip branch."""
        runs = (replace(run, sources=frozenset(s._replace(skip=True) for s in run.sources)) for run in self.runs)
        return replace(self, runs=tuple(runs))


def lost(values: Iterable[Any], reason: str) -> Lost:
    """Give up following what tensors carry, and say why; what is no tensor with features does not matter.

    >>> sorted(lost([Lost.because("sorted"), None], "turned").reasons)
    ['sorted', 'turned']
    """
    return Lost(frozenset({reason}).union(*(x.reasons for x in values if isinstance(x, Features | Lost))))


def total(runs: Iterable[Run]) -> int | None:
    """Return the width of runs together, ``None`` if one does not know its own.

    >>> total([Run(2), Run(3)]), total([Run(2), Run(None)])
    (5, None)
    """
    widths = [run.width for run in runs]
    return None if None in widths else sum(width or 0 for width in widths)


def part(runs: Sequence[Run], low: int, high: int) -> tuple[Run, ...]:
    """Return the runs of the features from ``low`` up to ``high``.

    >>> [run.width for run in part([Run(2), Run(3)], 1, 4)]
    [1, 2]
    """
    ends = list(accumulate((run.width or 0 for run in runs), initial=0))
    spans = [(max(low, start) - start, min(high, end) - start) for start, end in pairwise(ends)]
    return tuple(run.part(*span) for run, span in zip(runs, spans, strict=True) if span[0] < span[1])


def together(operands: Sequence["Features | Lost"]) -> "Features | Lost":
    """Return a sum, product or stack of tensors, entry by entry; a single feature is taken for a scalar.

    >>> row = Features((Run(2, frozenset({Source("a", 0)})),), (2,), (None, 0))
    >>> sorted(s.matrix for s in together([row, replace(row, runs=(Run(2, frozenset({Source("b", 0)})),))]).sources)
    ['a', 'b']
    """
    lost = frozenset[str]().union(*(x.reasons for x in operands if isinstance(x, Lost)))
    known = [x for x in operands if isinstance(x, Features)]
    known = [x for x in known if x.width != 1] or known
    if not known:
        return Lost(lost)
    first = max(known, key=lambda x: len(x.axes))
    for other in known:
        if (other.sizes, other.flat, _behind(other)) != (first.sizes, first.flat, _behind(first)):
            return Lost(lost.union(*(x.reasons for x in known), {"features meet along different axes"}))
    layouts = {tuple(run.width for run in x.runs) for x in known}
    if first.width is None and len(layouts) > 1:
        return Lost(lost.union(*(x.reasons for x in known), {"features of unknown number meet"}))
    pieces = zip(*(x.runs for x in known), strict=True) if len(layouts) == 1 else _refined(known)
    return replace(first, runs=tuple(_union(piece, lost) for piece in pieces))


def _refined(operands: Sequence[Features]) -> list[tuple[Run, ...]]:
    """Cut the runs of all operands wherever one of them begins a new one."""
    ends = sorted({end for x in operands for end in accumulate((run.width or 0 for run in x.runs), initial=0)})
    return [tuple(part(x.runs, low, high)[0] for x in operands) for low, high in pairwise(ends)]


def join(operands: Sequence["Features | Lost | None"], axis: int) -> "Features | Lost":
    """Return tensors put one after another along an axis; ``None`` is a tensor without features.

    >>> row = Features((Run(2, frozenset({Source("a", 0)})),), (2,), (None, 0))
    >>> [run.width for run in join([row, None, row], -1).runs]
    [2, None, 2]
    """
    known = [x for x in operands if isinstance(x, Features)]
    if not known or len({len(x.axes) for x in known}) > 1:
        return together([x for x in operands if x is not None])
    if known[0].along(axis) is None:
        return together([x for x in operands if x is not None])
    if any(x.axes != known[0].axes or len(x.sizes) > 1 for x in known) or any(x.flat for x in known):
        return Lost(frozenset({"concatenated along an axis where the features cannot be told"}))
    runs: list[Run] = []
    for x in operands:
        runs += x.runs if isinstance(x, Features) else [Run(None, unclear=x.reasons if x else frozenset())]
    return replace(known[0], runs=tuple(runs), sizes=(total(runs),))


def _union(runs: Sequence[Run], lost: frozenset[str]) -> Run:
    sources = frozenset[Source]().union(*(run.sources for run in runs))
    kept = frozenset(s for s in sources if not s.skip or s._replace(skip=False) not in sources)
    return Run(runs[0].width, kept, lost.union(*(run.unclear for run in runs)))


def _behind(x: Features) -> tuple[int | None, ...]:
    """Return the axes from the first with features on, which is what has to match when tensors meet."""
    first = next(at for at, axis in enumerate(x.axes) if axis is not None)
    return x.axes[first:]


def _window(target: Sequence[int | None], width: int, before: int, after: int) -> tuple[int, list[int]] | None:
    """Find the sizes in a new shape that the features fall into, with what is before and after them."""
    ends = range(len(target) + 1)
    spans = [(low, high) for low in ends for high in ends if low < high and (before or low == 0)]
    spans.sort(key=lambda span: (span[0] != before, len(target) - span[1] != after, span[1] - span[0]))
    for low, high in spans:
        sizes = list(target[low:high])
        rest = prod(size for size in sizes if size)
        open_ended = sizes.count(None)
        behind = len(target) - high
        if (after == 0 and any(size != 1 for size in target[high:])) or (before and low == 0):
            continue
        if open_ended == 1 and width % rest == 0 and low == before and min(after, 1) <= behind <= after:
            return low, [width // rest if size is None else size for size in sizes]
        if open_ended == 0 and rest == width and (width == 1 or 1 not in (sizes[0], sizes[-1])):
            return low, [size or 0 for size in sizes]
    return None
