"""Say what feeds what, where a network cannot be traced, and have it checked against the network."""

import re
from typing import Any

from torch import nn

from specdyn.spectra.flow.walk import Arrow, Pair
from specdyn.spectra.matrices import Matrix, Reading, read

_ARROW = re.compile(r"\s*(->|\+>|~)\s*")


def declare(model: nn.Module, *lines: str) -> list[Pair]:
    """Return the pairs that lines such as ``"embed -> up -> down"`` declare.

    The arrows are those of `Pair`: ``->`` feeds directly, ``+>`` through a skip branch, ``~`` joins queries
    and keys. A name is that of a matrix, of a piece of one, or of a module with a single matrix; attention
    is read by its input projection and passes on what its output projection gives.

    Raises ``ValueError`` for a name that nothing answers to or that several matrices answer to, for numbers
    of features that do not fit, for a pair declared twice, and for a line that is none.

    >>> model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "attention": nn.MultiheadAttention(4, 2)})
    >>> for pair in declare(model, "embed -> attention", "attention.in_proj_weight[v] -> attention.out_proj"):
    ...     print(pair)
    embed.weight -> attention.in_proj_weight
    attention.in_proj_weight[v] -> attention.out_proj.weight
    """
    reading = read(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    pairs: dict[Pair, None] = {}
    for line in lines:
        for left, arrow, right in _steps(line):
            previous = _matrix(reading, modules, left, gives=True)
            following = _matrix(reading, modules, right, gives=arrow == "~")
            pair = Pair(previous.name, following.name, arrow)
            if pair in pairs:
                raise ValueError(f"{line!r}: {pair} is declared twice; leave one out")
            _check(line, previous, following, arrow)
            pairs[pair] = None
    return list(pairs)


def _steps(line: str) -> list[tuple[str, Arrow, str]]:
    """Take a line apart into pairs of names and the arrow between them."""
    if not isinstance(line, str):
        raise TypeError(f"{line!r} is no line of text: give lines one by one, as in declare(model, *lines)")
    words: list[Any] = _ARROW.split(line.strip())
    if len(words) < 3 or not all(words) or any(" " in word for word in words):
        raise ValueError(f"{line!r} declares nothing: write 'a -> b', 'a -> b -> c', 'a +> b' or 'a ~ b'")
    return [(words[at], words[at + 1], words[at + 2]) for at in range(0, len(words) - 2, 2)]


def _matrix(reading: Reading, modules: dict[str, nn.Module], name: str, *, gives: bool) -> Matrix:
    """Return the matrix of a name, which may be that of the module around it."""
    path, bracket, rest = name.partition("[")
    if path in modules and path not in reading.parts:
        name = _only(reading, modules[path], path, gives) + bracket + rest
    return reading.find([name])[name]


def _only(reading: Reading, module: nn.Module, path: str, gives: bool) -> str:
    """Return the matrix that a module reads with, or that gives what it passes on."""
    names = [name for name in reading.parts if name.startswith(f"{path}.")]
    if isinstance(module, nn.MultiheadAttention):
        names = [name for name in names if name.endswith("out_proj.weight") == gives]
    if len(names) == 1:
        return names[0]
    if not names:
        raise ValueError(f"{path} is a {type(module).__name__}, in which nothing is measured; name a matrix")
    raise ValueError(f"{path} has {len(names)} matrices: name the one that is meant, of {', '.join(names)}")


def _check(line: str, previous: Matrix, following: Matrix, arrow: Arrow) -> None:
    """Refuse two matrices that cannot meet."""
    stacks = [tuple(matrix.view.shape[:-2]) for matrix in (previous, following)]
    if stacks[0] != stacks[1]:
        raise ValueError(f"{line!r}: {_many(stacks[0], previous)}, but {_many(stacks[1], following)}")
    given = previous.shape[0] // previous.blocks
    if arrow == "~":
        other = following.shape[0] // following.blocks
        if given != other:
            raise ValueError(f"{line!r}: {previous.name} gives {given} features, but {following.name} {other}")
        return
    taken = following.shape[1] // following.positions
    flattened = "Conv" in previous.kind and following.positions == 1 and taken % given == 0
    if given != taken and not flattened:
        cure = f"; name the columns that do, as in {following.name}[:,0:{given}]" if given < taken else ""
        raise ValueError(f"{line!r}: {previous.name} gives {given} features, but {following.name} reads {taken}{cure}")


def _many(stack: tuple[int, ...], matrix: Matrix) -> str:
    return f"{matrix.name} is {f'a stack of {stack[0]} matrices' if stack else 'one matrix'}"
