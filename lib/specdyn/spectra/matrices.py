"""Which matrices a network consists of, as views of its parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from html import escape

from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A piece of a module's own parameter, seen as a 2-D view; ``label`` tells heads apart.

    >>> layer = nn.Linear(3, 2)
    >>> Part("weight", "Linear", layer.weight).view.shape
    torch.Size([2, 3])
    """

    parameter: str
    kind: str
    view: Tensor
    label: str = ""


@dataclass(frozen=True)
class Matrix:
    """A weight of a network seen as a matrix that maps the layer's input to its output.

    ``name`` is the parameter's name in the model, with the head in brackets where it is one;
    ``view`` shares memory with the parameter.

    >>> [matrix.name for matrix in matrices(nn.MultiheadAttention(4, 2), by_head=True)][-2:]
    ['out_proj.weight[o0]', 'out_proj.weight[o1]']
    """

    name: str
    kind: str
    view: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns): (outputs, inputs).

        >>> matrices(nn.Linear(3, 2))[0].shape
        (2, 3)
        """
        rows, columns = self.view.shape
        return rows, columns


@dataclass(frozen=True)
class LeftOut:
    """A parameter that is not measured, and why.

    >>> describe(nn.Linear(3, 2)).left_out[0].reason
    'a vector, not a matrix'
    """

    name: str
    shape: tuple[int, ...]
    reason: str


@singledispatch
def read_module(module: nn.Module, by_head: bool) -> list[Part]:
    """Return the matrices among a module's own parameters; none for a type that is not known.

    Teach it a layer of your own with one function. It is given the module and whether attention
    is wanted by head:

    >>> import torch
    >>> class Bilinear(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mixer = nn.Parameter(torch.ones(2, 3, 4))
    >>> @read_module.register
    ... def _(module: Bilinear, by_head: bool) -> list[Part]:
    ...     return [Part("mixer", "Bilinear", module.mixer.flatten(1))]
    >>> [matrix.shape for matrix in matrices(Bilinear())]
    [(2, 12)]
    """
    return []


@read_module.register
def _(module: nn.Linear, by_head: bool) -> list[Part]:
    return [Part("weight", "Linear", module.weight)]


@read_module.register
def _(module: nn.Embedding, by_head: bool) -> list[Part]:
    # Stored as (words, width). Transposed it is the linear map of a one-hot word, like any layer.
    return [Part("weight", "Embedding", module.weight.T)]


@read_module.register
def _(module: nn.MultiheadAttention, by_head: bool) -> list[Part]:
    inputs = _attention_inputs(module)
    out = module.out_proj.weight
    if not by_head:
        names = {name: weight for name, _, weight in inputs}
        if module.in_proj_weight is not None:
            names = {"in_proj_weight": module.in_proj_weight}
        parts = [Part(name, "attention input", weight) for name, weight in names.items()]
        return [*parts, Part("out_proj.weight", "attention output", out)]
    d = module.head_dim
    parts = [
        Part(name, "attention head", weight[h * d : (h + 1) * d], f"{letter}{h}")
        for name, letter, weight in inputs
        for h in range(module.num_heads)
    ]
    columns = [out[:, h * d : (h + 1) * d] for h in range(module.num_heads)]
    kind = "attention head"
    return parts + [Part("out_proj.weight", kind, view, f"o{h}") for h, view in enumerate(columns)]


def _attention_inputs(module: nn.MultiheadAttention) -> list[tuple[str, str, Tensor]]:
    """Return (parameter, letter, weight) of the query, key and value projections."""
    if module.in_proj_weight is not None:
        blocks = module.in_proj_weight.chunk(3)
        return [("in_proj_weight", letter, w) for letter, w in zip("qkv", blocks, strict=True)]
    separate = module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
    return [(f"{x}_proj_weight", x, w) for x, w in zip("qkv", separate, strict=True)]


def matrices(model: nn.Module, *, by_head: bool = False) -> list[Matrix]:
    """Return every matrix of a model, in the order of ``model.named_parameters()``.

    Linear layers are read as they are stored, embeddings transposed, attention as its fused input
    projection and its output projection, or with ``by_head=True`` one matrix per head: rows of
    the query, key and value projections, columns of the output projection. A tensor that is used
    twice appears once. `describe` shows what was left out and why; `read_module` is how to add a
    kind of layer.

    Raises ``ValueError`` if there is no matrix at all, or if a parameter has no values yet (lazy
    or meta).

    >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))
    >>> [(matrix.name, matrix.shape) for matrix in matrices(model)]
    [('0.weight', (4, 10)), ('1.weight', (3, 4))]
    """
    found = [row for row in _walk(model, by_head) if isinstance(row, Matrix)]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no matrix that can be measured; specdyn.describe(model) "
            "says why, and specdyn.spectra.read_module is how to add a kind of layer"
        )
    return found


def _walk(model: nn.Module, by_head: bool) -> Iterator[Matrix | LeftOut]:
    """Go through all parameters once and say of each what it is measured as, or why it is not."""
    owners = dict(model.named_modules(remove_duplicate=False))
    first_name: dict[int, str] = {}
    parts: dict[str, list[Part]] = {}
    for path, module in model.named_modules():
        for part in read_module(module, by_head):
            parts.setdefault(_join(path, part.parameter), []).append(part)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        _refuse_without_values(name, parameter)
        shape = tuple(parameter.shape)
        known = first_name.setdefault(id(parameter), name)
        if known != name:
            yield LeftOut(name, shape, f"the same tensor as {known}")
            continue
        reason = _why_not(parameter, owners[name.rpartition(".")[0]], name in parts)
        if reason:
            yield LeftOut(name, shape, reason)
            continue
        for part in _own_parts(parts[name]):
            label = f"[{part.label}]" if part.label else ""
            yield Matrix(name + label, part.kind, part.view.detach())


def _own_parts(parts: list[Part]) -> list[Part]:
    """Keep what the outermost module says: attention knows more of ``out_proj`` than a Linear."""
    return [part for part in parts if part.parameter == parts[0].parameter]


def _refuse_without_values(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, nn.UninitializedParameter):
        raise ValueError(f"{name} is lazy and has no shape yet; run one batch through the model first")
    if parameter.is_meta:
        raise ValueError(f"{name} is on the meta device and has no values; use model.to_empty(...)")


def _why_not(parameter: nn.Parameter, owner: nn.Module, known: bool) -> str:
    """Return why a parameter is no matrix, or an empty string if it is one."""
    if sum(size > 1 for size in parameter.shape) < 2 and not (known and parameter.ndim >= 2):
        return "a vector, not a matrix"
    if parameter.numel() == 0:
        return "empty"
    if not parameter.is_floating_point():
        return f"{parameter.dtype} values are not real numbers"
    if not known:
        return f"{type(owner).__name__} is no known kind of layer (see specdyn.spectra.read_module)"
    return ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@dataclass(frozen=True)
class Description:
    """Every parameter of a model: measured as which matrix, or left out and why.

    Prints as a table; ``matrices`` and ``left_out`` hold the rows.

    >>> description = describe(nn.Linear(3, 2))
    >>> len(description.matrices), len(description.left_out)
    (1, 1)
    """

    matrices: tuple[Matrix, ...]
    left_out: tuple[LeftOut, ...]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return (name, kind, shape, remark) of every row, the header first.

        >>> describe(nn.Linear(3, 2)).rows()[1]
        ('weight', 'Linear', '2 x 3', 'rank at most 2')
        """
        head = ("name", "kind", "shape", "remark")
        found = [(m.name, m.kind, _by(m.shape), f"rank at most {min(m.shape)}") for m in self.matrices]
        left = [(x.name, "left out", _by(x.shape), x.reason) for x in self.left_out]
        return [head, *found, *left]

    def __str__(self) -> str:
        """Return the table as aligned text."""
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [[*(row[i].ljust(widths[i]) for i in range(3)), row[3]] for row in rows]
        return "\n".join("  ".join(line) for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = [[escape(cell) for cell in row] for row in self.rows()]
        lines = ["<tr><td>" + "</td><td>".join(row) + "</td></tr>" for row in body]
        return (
            '<table class="dataframe"><thead><tr><th>' + "</th><th>".join(head) + "</th></tr></thead>"
            "<tbody>" + "".join(lines) + "</tbody></table>"
        )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def describe(model: nn.Module, *, by_head: bool = False) -> Description:
    """Return a table of every matrix of a model, and of every parameter left out with the reason.

    >>> print(describe(nn.Linear(3, 2)))
    name    kind      shape  remark
    weight  Linear    2 x 3  rank at most 2
    bias    left out  2      a vector, not a matrix
    """
    rows = list(_walk(model, by_head))
    return Description(
        tuple(row for row in rows if isinstance(row, Matrix)),
        tuple(row for row in rows if isinstance(row, LeftOut)),
    )
