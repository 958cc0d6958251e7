"""Symmetries: which features of a network may trade places without changing what it computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.interventions.copies import copied
from specdyn.spectra import Flow, Matrix, Pair, find, follow

_COLUMNS = re.compile(r"(?P<whole>[^\[\]]+)(\[:,(?P<low>\d+):(?P<high>\d+)\])?")
_CLOSE = 1e-8


@dataclass(frozen=True)
class Symmetry:
    """Features that may be put into any other order, if everything that gives or reads them is reordered alike.

    ``rows`` are the matrices that give the ``size`` features, ``columns`` those that read them, ``[:,0:64]`` if they
    read other features too, named as in `specdyn.spectra.Pair`. ``vectors`` are parameters and buffers with a number
    for each: biases, and what a normalisation multiplies, adds and remembers. Where ``blocks`` are given, the
    features stay together in as many blocks of equal size, as the groups of GroupNorm ask for, coarse to fine.

    >>> Symmetry(3, ("0.weight",), ("2.weight",), ("0.bias",)).size
    3
    """

    size: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    vectors: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()

    def faces(self, model: nn.Module) -> dict[str, Tensor]:
        """Return, by name, what is reordered: tensors (size, ...) that share memory with the model's.

        A tied weight that both gives and reads them is there once. Raises ``ValueError`` for a matrix that the model
        does not have, that its layer computes, or that has another number of features.
        """
        entries = dict(model.named_parameters()) | dict(model.named_buffers())
        wholes = find(model, [name.partition("[")[0] for name in (*self.rows, *self.columns)])
        found = {f"rows of {name}": self._split(name, _stored(wholes[name])) for name in self.rows}
        found |= {name: self._split(name, entries[name].detach()) for name in self.vectors}
        for name in self.columns:
            whole, low, high = _parsed(name)
            found[f"columns of {name}"] = self._read(name, _stored(wholes[whole]), low, high)
        places: dict[tuple[int, int], str] = {}
        return {
            name: face
            for name, face in found.items()
            if places.setdefault((face.data_ptr(), face.stride(0)), name) == name
        }

    def reorder(self, model: nn.Module, order: Tensor) -> None:
        """Put, in the model itself, those features at place i that were at ``order[i]``."""
        for face in self.faces(model).values():
            face.copy_(face[order.to(face.device)])

    def _split(self, name: str, tensor: Tensor) -> Tensor:
        """Return rows in several blocks of all features (the gates of an LSTM) with the features first."""
        self._check(name, tensor.shape[0])
        return torch.unflatten(tensor, 0, (-1, self.size)).movedim(1, 0)

    def _read(self, name: str, tensor: Tensor, low: int, high: int | None) -> Tensor:
        """Return columns, several for each feature where pixels are laid out in a row, with the features first."""
        columns = tensor.movedim(1, 0)[low:high]
        self._check(name, columns.shape[0])
        return torch.unflatten(columns, 0, (self.size, -1))

    def _check(self, name: str, count: int) -> None:
        if not count or count % self.size:
            raise ValueError(f"{name} has {count} places for {self.size} features: give what belongs to one network")


def symmetries(model: nn.Module, *example: Any, pairs: Iterable[Pair] | None = None) -> list[Symmetry]:
    """Return which features of a network may trade places, in the order in which data passes them.

    What gives and reads the same features follows from `specdyn.spectra.follow`, or from the ``pairs`` that
    `specdyn.spectra.declare` makes where a network cannot be traced. Each is tried out: in a copy of the network with
    other weights, features are put into a random order, and unless what it makes of the ``example``, its
    inputs, stays the same in float64, the symmetry is left out. That of a residual stream to which fixed positions
    are added is none, for instance; nor is attention's, whose heads may only trade places as a whole. Matrices that
    are ``rows`` of no symmetry keep their order, as the last one must.

    Raises ``ValueError`` if the network cannot be traced and no ``pairs`` are given, and if it gives no tensors or
    values that are not finite, by which nothing can be told.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> symmetries(model, torch.randn(5, 1, 4, 4))[0].vectors
    ('0.bias', '1.weight', '1.bias', '1.running_mean', '1.running_var')
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Softmax(0), nn.Linear(4, 2))
    >>> from specdyn.spectra import matrices
    >>> moved = {name for symmetry in symmetries(model, torch.randn(5, 3)) for name in symmetry.rows}
    >>> [matrix.name for matrix in matrices(model) if matrix.name not in moved]
    ['4.weight']
    """
    flow = follow(model) if pairs is None else Flow(tuple(pairs), {})
    generator = torch.Generator().manual_seed(0)
    twin = copied(model).double().eval()
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator).to(tensor))
    inputs = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in example]
    outputs = _outputs(twin, inputs)
    if not outputs or not all(bool(output.isfinite().all()) for output in outputs):
        gives = "values that are not finite" if outputs else "no tensors"
        raise ValueError(f"{type(model).__name__} gives {gives} for this example: whether it changes cannot be told")
    found = []
    for proposed in _proposed(model, flow):
        order = shuffled(proposed, generator)
        order = order.flip(0) if (order.diff() > 0).all() else order  # of few features chance may move none
        proposed.reorder(twin, order)
        after = _outputs(twin, inputs)
        proposed.reorder(twin, order.argsort())
        if all(torch.allclose(one, two, rtol=_CLOSE, atol=_CLOSE) for one, two in zip(outputs, after, strict=True)):
            found.append(proposed)
    return found


def permuted(model: nn.Module, orders: Mapping[Symmetry, Tensor]) -> nn.Module:
    """Return a copy with features in other orders: at place i those that were at ``order[i]``, of each symmetry.

    Raises ``ValueError`` for an order that is none, and for what the model does not have.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> x = torch.randn(4, 2)
    >>> turned = permuted(model, {symmetries(model, x)[0]: torch.tensor([2, 0, 1])})
    >>> torch.equal(turned[0].weight, model[0].weight[[2, 0, 1]]), torch.allclose(turned(x), model(x), atol=1e-6)
    (True, True)
    """
    changed = copied(model)
    for symmetry, order in orders.items():
        if sorted(order.tolist()) != list(range(symmetry.size)):
            raise ValueError(
                f"the order for {', '.join(symmetry.rows)} is {order.tolist()}: "
                f"give each number below {symmetry.size} once"
            )
        symmetry.reorder(changed, order)
    return changed


def _proposed(model: nn.Module, flow: Flow) -> Iterator[Symmetry]:
    """Yield what the flow of data suggests: matrices whose outputs are read or kept together, and their readers."""
    together: dict[str, set[str]] = {}
    for names in [*_writers(flow).values(), *flow.kept.values()]:
        merged = set(names).union(*(together.get(name, ()) for name in names))
        together |= dict.fromkeys(merged, merged)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for rows in {id(names): names for names in together.values()}.values():
        wholes = find(model, [name for name in shapes if name in rows])
        readers = dict.fromkeys(pair.next for pair in flow.pairs if pair.previous in rows and pair.arrow != "~")
        sizes = {matrix.shape[0] // matrix.blocks for matrix in wholes.values()}
        if len(sizes) > 1 or len(wholes) < len(rows) or not all(map(_COLUMNS.fullmatch, readers)):
            continue
        layers = [path for path, names in flow.kept.items() if names <= rows]
        owned = [f"{layer}.{name}" for layer in layers for name in ("weight", "bias", "running_mean", "running_var")]
        biases = [re.sub(r"weight([^.]*)$", r"bias\1", name) for name in wholes]
        groups = {getattr(model.get_submodule(layer), "num_groups", 1) for layer in layers} - {1}
        size = sizes.pop()
        vectors = tuple(
            name for name in [*biases, *owned] if len(shape := shapes.get(name, ())) == 1 and not shape[0] % size
        )
        proposed = Symmetry(size, tuple(wholes), tuple(readers), vectors, tuple(sorted(groups)))
        if not any(fine % coarse for coarse, fine in pairwise((*proposed.blocks, proposed.size))):
            with suppress(ValueError):  # computed by a layer, or stored in groups: no places to reorder
                proposed.faces(model)
                yield proposed


def _writers(flow: Flow) -> dict[str, set[str]]:
    """Return by the name of a matrix, or of some of its columns, whose outputs it reads there."""
    found: dict[str, set[str]] = {}
    for pair in flow.pairs:
        if pair.arrow != "~":
            found.setdefault(pair.next, set()).add(pair.previous)
    return found


def shuffled(symmetry: Symmetry, generator: torch.Generator) -> Tensor:
    """Return a random order (size,) that a symmetry allows.

    >>> draws = torch.Generator().manual_seed(0)
    >>> shuffled(Symmetry(6, (), (), blocks=(3,)), draws).view(3, 2).sort().values.tolist()
    [[4, 5], [0, 1], [2, 3]]
    """
    order = torch.arange(symmetry.size).unsqueeze(0)
    for count, finer in pairwise((1, *symmetry.blocks, symmetry.size)):
        blocks = order.view(count, finer // count, -1)
        order = torch.stack([block[torch.randperm(len(block), generator=generator)] for block in blocks])
    return order.flatten()


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Iterable[Any]) -> list[Tensor]:
    """Return the tensors that a network returns, which may be several."""

    def tensors(outputs: Any) -> list[Tensor]:
        if isinstance(outputs, Tensor):
            return [outputs]
        parts = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        return [tensor for part in parts for tensor in tensors(part)] if isinstance(parts, tuple | list) else []

    return tensors(model(*inputs))


def _stored(matrix: Matrix) -> Tensor:
    if matrix.stored is None or matrix.stored.shape[0] != matrix.shape[0]:
        raise ValueError(f"cannot reorder {matrix.name}: computed by its layer, or stored in groups")
    return matrix.stored


def _parsed(name: str) -> tuple[str, int, int | None]:
    """Return the matrix and the range of its input features that a name means."""
    match = _COLUMNS.fullmatch(name)
    if match is None:
        raise ValueError(f"cannot reorder {name}: name a whole matrix, or columns of it as in fc.weight[:,0:64]")
    return match["whole"], int(match["low"] or 0), int(match["high"]) if match["high"] else None
