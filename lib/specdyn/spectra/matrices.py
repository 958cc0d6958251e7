"""Which matrices a network consists of, as views of its parameters, and how they are named."""

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import NamedTuple

import torch
from torch import Tensor, nn

from specdyn.spectra.effective import StandIns
from specdyn.spectra.layers import Part, read_module

SPLITS = ("gates", "groups", "heads", "qkv")
"""What the layers known here come apart into; layers of your own may add to it."""

_NAME = re.compile(
    r"(?P<parameter>[^\[\]]+)(\[(?P<label>[^\[\]:]+)\]|\[(?P<first>\d+):(?P<last>\d+)(:(?P<each>\d+))?,:\])?"
    r"(\[:,(?P<low>\d+):(?P<high>\d+)\])?"
)


@dataclass(frozen=True)
class Matrix:
    """A weight of a network seen as a matrix that maps the layer's input to its output.

    ``name`` is the parameter's name in the model, then in brackets the piece if it is one (``[q]``,
    ``[i]``, ``[group3]``) and the columns if not all are meant (``[:,0:64]``, counted in input
    features). ``[q*]`` is a stack of all heads of the queries, ``view`` then has three dimensions. Rows
    without a name of their own are ``[0:64,:]``, or ``[0:64:16,:]`` as a stack of 16 rows each.
    ``blocks`` to ``position`` say what rows and columns stand for, as in `Part`. ``stored`` is a tensor
    of as many entries in the same order that shares memory with the parameter, which is mostly ``view``
    itself; ``None`` where the layer computes its weight from something else.

    >>> [matrix.name for matrix in matrices(nn.MultiheadAttention(4, 2), split="heads")][-2:]
    ['out_proj.weight[o0]', 'out_proj.weight[o1]']
    """

    name: str
    kind: str
    view: Tensor = field(repr=False)
    blocks: int = 1
    block: int = 0
    positions: int = 1
    position: int = 0
    stored: Tensor | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns): (outputs, inputs).

        >>> matrices(nn.Linear(3, 2))[0].shape
        (2, 3)
        """
        rows, columns = self.view.shape[-2:]
        return rows, columns

    def write(self, values: Tensor) -> None:
        """Put other values into the parameter that this matrix is a view of.

        Raises ``ValueError`` for a weight that the layer computes, which has no place to write to.

        >>> layer = nn.ConvTranspose2d(2, 3, 2)
        >>> matrices(layer)[0].write(torch.zeros(3, 8))
        >>> layer.weight.abs().sum().item()
        0.0
        """
        if self.stored is None:
            raise ValueError(f"{self.name} is computed by its layer and cannot be written to; change what it stores")
        with torch.no_grad():
            self.stored.copy_(values.reshape(self.stored.shape))


@dataclass(frozen=True)
class LeftOut:
    """A parameter that is not measured, and why.

    >>> from specdyn.spectra import describe
    >>> describe(nn.Linear(3, 2)).left_out[0].reason
    'a vector, not a matrix'
    """

    name: str
    shape: tuple[int, ...]
    reason: str


def matrices(model: nn.Module, *, split: str | Collection[str] = ()) -> list[Matrix]:
    """Return every matrix of a model, in the order of ``model.named_parameters()``.

    Layers are read as maps from their inputs to their outputs: linear layers as they are stored,
    embeddings transposed, kernels flattened to outputs x (inputs and positions), the gates of an LSTM
    or GRU and the queries, keys and values of attention in one. ``split`` takes them apart: ``"gates"``
    of recurrent layers, ``"groups"`` of convolutions, ``"qkv"`` and ``"heads"`` of attention, or several
    of these. A tensor that is used twice appears once, and a parametrized or pruned weight as the layer
    uses it in evaluation. `describe` shows what was left out and why; `read_module` is how to add a kind
    of layer.

    Raises ``ValueError`` if there is no matrix at all, if a parameter has no values yet (lazy or meta),
    or if nothing is known by the name of the split.

    >>> model = nn.Sequential(nn.Embedding(10, 4), nn.LSTM(4, 3))
    >>> [(matrix.name, matrix.shape) for matrix in matrices(model)]
    [('0.weight', (4, 10)), ('1.weight_ih_l0', (12, 4)), ('1.weight_hh_l0', (12, 3))]
    >>> [matrix.name for matrix in matrices(model, split="gates")][:3]
    ['0.weight', '1.weight_ih_l0[i]', '1.weight_ih_l0[f]']
    """
    return read(model).matrices(split)


def find(model: nn.Module, names: Iterable[str]) -> dict[str, Matrix]:
    """Return the matrices with these names, wholes and pieces, stacks and columns.

    A tied weight goes by each of its names, read as the layer of that name reads it.

    Raises ``ValueError`` for a name that nothing answers to, with the nearest ones there are.

    >>> found = find(nn.MultiheadAttention(4, 2), ["in_proj_weight[v]", "in_proj_weight[q*]"])
    >>> [tuple(matrix.view.shape) for matrix in found.values()]
    [(4, 4), (2, 2, 4)]
    >>> pieces = find(nn.Linear(6, 4), ["weight[:,0:3]", "weight[0:2,:]", "weight[0:4:2,:]"])
    >>> [tuple(matrix.view.shape) for matrix in pieces.values()]
    [(4, 3), (2, 6), (2, 2, 6)]
    """
    return read(model).find(names)


@dataclass(frozen=True)
class Reading:
    """A model as its layers read it.

    ``parts`` holds, by the name of each weight that can be measured, the whole and all its pieces: a
    tied weight under each of its names. ``measured`` are the names that are measured, ``left_out`` is
    everything else, and ``storages`` tell which memory belongs to parameters.

    >>> reading = read(nn.GRU(3, 5))
    >>> reading.measured
    ('weight_ih_l0', 'weight_hh_l0')
    >>> [part.label for part in reading.parts["weight_ih_l0"]]
    ['', 'r', 'z', 'n']
    """

    model: nn.Module
    parts: dict[str, list[Part]]
    measured: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    storages: frozenset[int]

    def matrices(self, split: str | Collection[str] = ()) -> list[Matrix]:
        """Return what `matrices` returns of the model.

        >>> [matrix.name for matrix in read(nn.Linear(3, 2)).matrices()]
        ['weight']
        """
        if not self.measured:
            raise ValueError(
                f"{type(self.model).__name__} has no matrix that can be measured; specdyn.describe(model) "
                "says why, and specdyn.spectra.read_module is how to add a kind of layer"
            )
        wanted = self._splits(split)
        found = []
        for name in self.measured:
            pieces = [part for part in self.parts[name] if part.split in wanted]
            found += [self._matrix(_piece(name, part.label), part) for part in pieces or self.parts[name][:1]]
        return found

    def find(self, names: Iterable[str]) -> dict[str, Matrix]:
        """Return what `find` returns of the model.

        >>> list(read(nn.Linear(3, 2)).find(["weight"]))
        ['weight']
        """
        return {name: self._matrix(name, self._part(name)) for name in names}

    def _splits(self, split: str | Collection[str]) -> set[str]:
        wanted = {split} if isinstance(split, str) else set(split)
        choices = set(SPLITS).union(part.split for parts in self.parts.values() for part in parts) - {""}
        if unknown := wanted - choices:
            raise ValueError(f"unknown split {', '.join(map(repr, sorted(unknown)))}: choose from {sorted(choices)}")
        return wanted

    def _matrix(self, name: str, part: Part) -> Matrix:
        stored = part.view if part.stored is None else part.stored
        mine = stored.untyped_storage().data_ptr() in self.storages
        meaning = part.blocks, part.block, part.positions, part.position
        return Matrix(name, part.kind, part.view.detach(), *meaning, stored.detach() if mine else None)

    def _part(self, name: str) -> Part:
        match = _NAME.fullmatch(name)
        label = match["label"] or "" if match else ""
        known = self.parts.get(match["parameter"], []) if match else []
        pattern = re.compile(r"\d+".join(map(re.escape, label.split("*"))))
        found = [part for part in known if pattern.fullmatch(part.label)]
        if match is None or not found:
            raise ValueError(self._unknown(name))
        stack = replace(found[0], view=torch.stack([part.view for part in found])) if "*" in label else found[0]
        rows = _rows_between(name, stack, match["first"], match["last"], match["each"])
        return _columns(name, rows, match["low"], match["high"])

    def _unknown(self, name: str) -> str:
        for row in self.left_out:
            if row.name == name:
                return f"{name} is no matrix that can be measured: {row.reason}"
        names = [_piece(weight, part.label) for weight, parts in self.parts.items() for part in parts]
        near = get_close_matches(name, names, cutoff=0.4) or names[:3]
        return f"no matrix {name!r} in {type(self.model).__name__}; the nearest names are {', '.join(near)}"


def read(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> Reading:
    """Read a model once, with other values for the parameters that ``weights`` names.

    >>> read(nn.Linear(3, 2), {"weight": torch.zeros(2, 3)}).find(["weight"])["weight"].view.sum().item()
    0.0
    """
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise TypeError(f"matrices are read off a torch.nn.Module and this is of type {kind}; load it into its model")
    named = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in named.items():
        _refuse_without_values(name, parameter)
    instead = _instead(named, weights or {})
    stand_ins = StandIns(instead)
    with torch.no_grad():
        parts = _parts(stand_ins.of(model))
    values = {name: instead.get(id(parameter), parameter) for name, parameter in named.items()}
    rows = list(_rows(model, values, stand_ins, parts))
    return Reading(
        model,
        {row.name: parts[row.name] for row in rows if row.tied or not row.reason},
        tuple(row.name for row in rows if not row.reason),
        tuple(LeftOut(row.name, row.shape, row.reason) for row in rows if row.reason),
        frozenset(p.untyped_storage().data_ptr() for p in named.values() if p.layout is torch.strided),
    )


class _Row(NamedTuple):
    """A weight, and why it is not measured, if it is not; ``tied`` if only because it already was."""

    name: str
    shape: tuple[int, ...]
    reason: str
    tied: bool = False


def _rows(
    model: nn.Module, values: Mapping[str, Tensor], stand_ins: StandIns, parts: Mapping[str, list[Part]]
) -> Iterator[_Row]:
    """Say of every weight once whether it is measured, and if not, why."""
    owners = dict(model.named_modules(remove_duplicate=False))
    computed = _computed(owners, values, stand_ins)
    first: dict[Hashable, _Computed] = {}
    done: set[str] = set()
    for name, stored in values.items():
        weight = computed.get(name, _Computed(name, stored, _identity(stored)))
        if weight.name not in done:
            done.add(weight.name)
            known = first.setdefault(weight.key, weight)
            if known is not weight and (name not in computed or torch.equal(known.value, weight.value)):
                reason, tied = f"the same tensor as {known.name}", weight.name in parts
            else:
                owner = owners[weight.name.rpartition(".")[0]]
                reason, tied = _why_not(weight.value, owner, weight.name in parts), False
            yield _Row(weight.name, tuple(weight.value.shape), reason, tied)
        if name in computed:
            yield _Row(name, tuple(stored.shape), f"{weight.name} is computed from it")
    for name in parts.keys() - done:
        yield _Row(name, tuple(parts[name][0].view.shape), "a buffer or an attribute, not a parameter")
    yield from _quantized(model)


class _Computed(NamedTuple):
    name: str
    value: Tensor
    key: Hashable


def _computed(
    owners: Mapping[str, nn.Module], values: Mapping[str, Tensor], stand_ins: StandIns
) -> dict[str, _Computed]:
    """Return, by the name of each parameter that something is computed from, what that is."""
    found: dict[str, _Computed] = {}
    for path, module in owners.items():
        for name, value, sources in stand_ins.computed.get(id(module), ()):
            names = [_join(path, source) for source in sources]
            key = tuple(_identity(values[source]) for source in names)
            for source in names:
                found.setdefault(source, _Computed(_join(path, name), value, key))
    return found


def _parts(model: nn.Module) -> dict[str, list[Part]]:
    """Return what the modules read, by the name of the weight, wholes first."""
    found: dict[str, list[Part]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for part in read_module(module):
            found.setdefault(_join(path, part.parameter), []).append(part)
    # What the outermost module says counts: attention knows more of ``out_proj`` than a Linear.
    return {name: [part for part in parts if part.parameter == parts[0].parameter] for name, parts in found.items()}


def _instead(named: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Return by the identity of a parameter what is read in its place."""
    for name, weight in weights.items():
        if name not in named:
            near = get_close_matches(name, named) or list(named)[:3]
            raise ValueError(f"weights: the model has no parameter {name!r}; the nearest are {', '.join(near)}")
        if weight.shape != named[name].shape:
            theirs, ours = tuple(weight.shape), tuple(named[name].shape)
            raise ValueError(f"weights: {name} has shape {theirs}, but {ours} in the model")
    return {id(named[name]): weight.detach() for name, weight in weights.items()}


def _refuse_without_values(name: str, parameter: Tensor) -> None:
    if isinstance(parameter, nn.UninitializedParameter):
        raise ValueError(f"{name} is lazy and has no shape yet; run one batch through the model first")
    if parameter.is_meta:
        raise ValueError(f"{name} is on the meta device and has no values; use model.to_empty(...)")


def _why_not(value: Tensor, owner: nn.Module, known: bool) -> str:
    """Return why a weight is no matrix, or an empty string if it is one."""
    if sum(size > 1 for size in value.shape) < 2 and not (known and value.ndim >= 2):
        return "a vector, not a matrix"
    if value.numel() == 0:
        return "empty"
    if not value.is_floating_point() or value.dtype.itemsize < 2:
        return f"{value.dtype}: only real floating-point weights of at least 16 bits are measured"
    if value.layout is not torch.strided:
        return f"{value.layout}: only dense weights are measured"
    if isinstance(owner, nn.LayerNorm | nn.RMSNorm):
        return "multiplied or added entry by entry, not a matrix"
    if not known:
        kind = type(owner).__name__
        if read_module.dispatch(type(owner)) is read_module.dispatch(nn.Module):
            return f"{kind} is no known kind of layer (see specdyn.spectra.read_module)"
        return f"not among what is read of {kind} (see specdyn.spectra.read_module)"
    return ""


def _quantized(model: nn.Module) -> Iterator[_Row]:
    """Find the layers that pack their weights away where they are no parameters."""
    for path, module in model.named_modules():
        if "quantized" not in type(module).__module__.split("."):
            continue
        if any(callable(getattr(module, name, None)) for name in ("weight", "get_weight")):
            yield _Row(_join(path, "weight"), (), "quantized; measure the model before it is converted")


def _identity(tensor: Tensor) -> Hashable:
    """Tell tensors apart by the memory they occupy, so that ties made through ``.data`` are seen too."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _rows_between(name: str, part: Part, first: str | None, last: str | None, each: str | None) -> Part:
    """Keep the rows from ``first`` up to ``last``, as a stack of matrices of ``each`` rows if that is given."""
    if first is None or last is None:
        return part
    low, high, rows = int(first), int(last), part.view.shape[-2]
    size = int(each or high - low)
    if not 0 <= low < high <= rows or not size or (high - low) % size:
        raise ValueError(f"{name}: there are {rows} rows, so a range is from 0 up to {rows}, in equal steps if any")
    view = part.view[..., low:high, :]
    stack = view.reshape(*view.shape[:-2], (high - low) // size, size, view.shape[-1])
    return replace(part, view=stack if each else view, blocks=1, block=0, stored=None)


def _columns(name: str, part: Part, low: str | None, high: str | None) -> Part:
    """Keep the columns that read the input features from ``low`` up to ``high``."""
    if low is None or high is None:
        return part
    features = part.view.shape[-1] // part.positions
    if not 0 <= int(low) < int(high) <= features:
        raise ValueError(f"{name}: there are {features} input features, so columns go from 0 up to {features}")
    view = part.view[..., int(low) * part.positions : int(high) * part.positions]
    return replace(part, view=view, stored=None)


def _piece(name: str, label: str) -> str:
    return f"{name}[{label}]" if label else name


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
