"""Which matrix of a network feeds which, by what its ``forward`` does."""

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from specdyn.spectra.flow.features import Features, Lost
from specdyn.spectra.flow.functions import call
from specdyn.spectra.flow.layers import arguments, through
from specdyn.spectra.flow.trace import is_leaf, trace
from specdyn.spectra.flow.walk import PLAIN, Pair, Walk, Weight
from specdyn.spectra.matrices import Reading, read

_IN_PLACE = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv", "imatmul": "matmul"}
_JOINING = {"add", "sub", "cat", "concat", "concatenate"}
_RANKS = (2, 3)
_WRAPPERS = {
    "AveragedModel": "module",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


@dataclass(frozen=True)
class Flow:
    """What feeds what in a network, and where that is not known.

    ``unclear`` says of a matrix why more may feed it than the pairs say. ``kept`` names the layers that leave features
    in their places, such as norms, with the matrices whose outputs these are.

    >>> flow = follow(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 4)))
    >>> flow.pairs, flow.kept
    ((Pair(previous='0.weight', next='2.weight', arrow='->'),), {'1': frozenset({'0.weight'})})
    """

    pairs: tuple[Pair, ...]
    unclear: dict[str, str]
    kept: dict[str, frozenset[str]] = field(default_factory=dict)


def feeds(model: nn.Module) -> list[Pair]:
    """Return which matrices feed which, in the order in which data passes them.

    The network is traced, not run: no example of an input is needed. Arguments of ``forward`` that have a
    default keep it, but where all have one and the first is ``None``, that one is the input. Where it is not
    certain which features arrive in which place there is no pair, and `follow` says why. Examples, tokens
    and pixels are not told apart: what reaches one of them feeds all.

    Raises ``ValueError`` with the reason if the model cannot be traced; `declare` is for that case.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.embed, self.up, self.down = nn.Embedding(10, 4), nn.Linear(4, 8), nn.Linear(8, 4)
    ...         self.out = nn.Linear(4, 10)
    ...     def forward(self, words):
    ...         x = self.embed(words)
    ...         return self.out(x + self.down(self.up(x).relu()))
    >>> for pair in feeds(Block()):
    ...     print(pair)
    embed.weight -> up.weight
    up.weight -> down.weight
    down.weight -> out.weight
    embed.weight +> out.weight
    """
    return list(follow(model).pairs)


def follow(model: nn.Module) -> Flow:
    """Return what `feeds` returns, and where what feeds a matrix is not (all) known.

    >>> follow(nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8))).unclear
    {'1.weight': 'reads in 8 groups, so its columns are not the features that arrive'}
    """
    inside = _WRAPPERS.get(type(model).__name__)
    if inside:
        return _renamed(follow(getattr(model, inside)), f"{inside}.")
    reading = read(model)
    if is_leaf(model):
        walk = Walk(reading, 2)
        through(model, walk, "", *arguments(model))
    else:
        graph = trace(model)
        # Only how axes are counted from the front hangs on the rank; where it is wrong, less can be followed.
        walk = min((_walked(model, reading, graph, rank) for rank in _RANKS), key=_missed)
    reached = {name: "; ".join(reasons) for name, reasons in walk.unclear.items()}
    idle = {name: "is not used in forward()" for name in reading.measured if name not in walk.used}
    return Flow(tuple(walk.pairs), {**reached, **idle}, walk.kept)


def _renamed(flow: Flow, prefix: str) -> Flow:
    pairs = tuple(Pair(prefix + pair.previous, prefix + pair.next, pair.arrow) for pair in flow.pairs)
    kept = {prefix + path: frozenset(prefix + name for name in names) for path, names in flow.kept.items()}
    return Flow(pairs, {prefix + name: reason for name, reason in flow.unclear.items()}, kept)


def _missed(walk: Walk) -> tuple[int, int]:
    return -len(walk.pairs), len(walk.unclear)


def _walked(model: nn.Module, reading: Reading, graph: fx.Graph, rank: int) -> Walk:
    """Go through the graph once."""
    walk = Walk(reading, rank)
    values: dict[fx.Node, Any] = {}
    lineage = _Lineage()
    for node in graph.nodes:
        emitted = walk.emitted
        values[node] = _value(model, walk, node, values, lineage)
        lineage.add(node, walk.emitted > emitted)
    return walk


def _value(model: nn.Module, walk: Walk, node: fx.Node, values: dict[fx.Node, Any], lineage: "_Lineage") -> Any:
    """Return what a call gives: features, or why they are lost, or nothing to follow."""
    if node.op in ("placeholder", "output"):
        return PLAIN
    if node.op == "get_attr":
        return _attribute(model, str(node.target))
    name = "" if node.op == "call_module" else _name(node.target)
    known = lineage.past(node, values) if name in _JOINING else values
    args: Any = fx.node.map_arg(node.args, known.__getitem__)
    kwargs: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
    if node.op == "call_module":
        path = str(node.target)
        return through(model.get_submodule(path), walk, path, *args, **kwargs)
    return call(walk, name, node.target, args, kwargs)


def _attribute(model: nn.Module, path: str) -> Any:
    """Return a parameter as a function is given it; constants and buffers carry nothing."""
    owner, _, name = path.rpartition(".")
    try:
        found = getattr(model.get_submodule(owner), name)
    except AttributeError:
        return PLAIN
    return Weight(path, tuple(found.shape)) if isinstance(found, nn.Parameter) else PLAIN


def _name(target: Any) -> str:
    name = target if isinstance(target, str) else target.__name__
    return _IN_PLACE.get(name, name.rstrip("_"))


class _Lineage:
    """Which layers each value has come through, for telling the branch that skips from the one it skips."""

    def __init__(self) -> None:
        # One bit for every call in which a matrix was used.
        self._through: dict[fx.Node, int] = {}

    def add(self, node: fx.Node, emits: bool) -> None:
        """Note what a call's value has come through."""
        through = (1 << len(self._through)) * emits
        for before in node.all_input_nodes:
            through |= self._through[before]
        self._through[node] = through

    def past(self, node: fx.Node, values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        """Return the values with those marked that come to a sum past layers that others come through."""
        meeting = [x for x in node.all_input_nodes if isinstance(values[x], Features | Lost)]
        skipping = [x for x in meeting if any(self._skips(x, other) for other in meeting)]
        return {**values, **{x: values[x].skipping() for x in skipping if isinstance(values[x], Features)}}

    def _skips(self, node: fx.Node, other: fx.Node) -> bool:
        ours, theirs = self._through[node], self._through[other]
        return ours != theirs and ours & theirs == ours
