"""How each kind of layer is read: which of its tensors are matrices, and into what they come apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from torch import Tensor, nn

_GATES = {"LSTM": "ifgo", "GRU": "rzn"}
_CANDIDATE = 2  # g of an LSTM, n of a GRU: the only gate whose values the state takes on


@dataclass(frozen=True)
class Part:
    """A piece of a module's own parameter, seen as a matrix (outputs, inputs).

    ``parameter`` is its path inside the module. A whole has no ``label``; a piece says in ``split`` what
    the whole was taken apart into, and in ``label`` which one it is. The rows are ``blocks`` blocks of
    the features that are passed on (the gates of an LSTM), of which ``block`` is the one the paper
    compares. The columns are input features x ``positions``, features first (a kernel), and ``position``
    is its centre. ``stored`` is given where ``view`` has to be a copy: a tensor of as many entries in
    the same order that does share memory with the parameter.

    >>> layer = nn.Linear(3, 2)
    >>> Part("weight", "Linear", layer.weight).view.shape
    torch.Size([2, 3])
    """

    parameter: str
    kind: str
    view: Tensor
    label: str = ""
    split: str = ""
    blocks: int = 1
    block: int = 0
    positions: int = 1
    position: int = 0
    stored: Tensor | None = None


@singledispatch
def read_module(module: nn.Module) -> list[Part]:
    """Return the matrices among a module's parameters, wholes and pieces; none for an unknown type.

    Teach it a layer of your own with one decorated function. What an outer module says of a parameter
    counts for more than what the inner one says, so attention made of linear layers can be read by head:

    >>> class Attention(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.heads, self.qkv, self.out = 2, nn.Linear(4, 12), nn.Linear(4, 4)
    >>> @read_module.register
    ... def _(module: Attention) -> list[Part]:
    ...     qkv = Part("qkv.weight", "attention input", module.qkv.weight, blocks=3, block=2)
    ...     out = Part("out.weight", "attention output", module.out.weight)
    ...     by_head = heads(qkv, "qkv", module.heads) + heads(out, "o", module.heads)
    ...     return [qkv, out, *cut(qkv, "qkv", "qkv"), *by_head]
    >>> from specdyn.spectra import matrices
    >>> [matrix.name for matrix in matrices(Attention(), split="heads")][-3:]
    ['qkv.weight[v1]', 'out.weight[o0]', 'out.weight[o1]']
    """
    return []


def cut(whole: Part, split: str, labels: Sequence[str], *, kind: str = "", columns: bool = False) -> list[Part]:
    """Return the pieces that a whole's rows, or its ``columns``, fall into: one of equal size a label.

    >>> lstm = nn.LSTM(3, 5)
    >>> whole = Part("weight_ih_l0", "LSTM input", lstm.weight_ih_l0, blocks=4, block=2)
    >>> [(piece.label, tuple(piece.view.shape)) for piece in cut(whole, "gates", "ifgo")]
    [('i', (5, 3)), ('f', (5, 3)), ('g', (5, 3)), ('o', (5, 3))]
    """
    size = whole.view.shape[int(columns)]
    if size % len(labels):
        side = "columns" if columns else "rows"
        raise ValueError(f"{whole.parameter}: {size} {side} cannot be cut into {len(labels)} equal parts for {split!r}")
    views = whole.view.tensor_split(len(labels), int(columns))
    alone = replace(whole, kind=kind or whole.kind, split=split, blocks=1, block=0, stored=None)
    return [replace(alone, view=view, label=label) for view, label in zip(views, labels, strict=True)]


def heads(whole: Part, letters: str, count: int) -> list[Part]:
    """Return the heads of an attention projection: rows for ``"q"`` or ``"qkv"``, columns for ``"o"``.

    The rows are the heads of the first letter, then those of the next. Where query and key heads differ
    in number, call it once for each projection.

    >>> whole = Part("out.weight", "attention output", nn.Linear(6, 6).weight)
    >>> [(head.label, tuple(head.view.shape)) for head in heads(whole, "o", 3)]
    [('o0', (6, 2)), ('o1', (6, 2)), ('o2', (6, 2))]
    """
    labels = [f"{letter}{head}" for letter in letters for head in range(count)]
    return cut(whole, "heads", labels, kind="attention head", columns=letters == "o")


@read_module.register
def _(module: nn.Linear) -> list[Part]:
    return [Part("weight", "Linear", module.weight)]


@read_module.register
def _(module: nn.Bilinear) -> list[Part]:
    # The linear map of the outer product of its two inputs.
    return [Part("weight", "Bilinear", module.weight.flatten(1))]


@read_module.register
def _(module: nn.Embedding) -> list[Part]:
    # Stored as (words, width). Transposed it is the linear map of a one-hot word, like any layer.
    return [Part("weight", "Embedding", module.weight.T)]


@read_module.register
def _(module: nn.EmbeddingBag) -> list[Part]:
    return [Part("weight", "EmbeddingBag", module.weight.T)]


@read_module.register
def _(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[Part]:
    whole = _kernel(module.weight, f"Conv{len(module.kernel_size)}d", module.kernel_size)
    if module.groups == 1:
        return [whole]
    pieces = cut(whole, "groups", _group_labels(module.groups), kind=f"{whole.kind} group")
    return [replace(whole, kind=f"{whole.kind}, {module.groups} groups"), *pieces]


@read_module.register
def _(module: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> list[Part]:
    kind = f"ConvTranspose{len(module.kernel_size)}d"
    # Stored as (inputs, outputs of a group, kernel); the inputs of one group follow one another.
    inputs, outputs, *kernel = module.weight.shape
    groups = module.weight.reshape(module.groups, inputs // module.groups, outputs, *kernel).transpose(1, 2)
    if module.groups == 1:
        return [_kernel(groups[0], kind, module.kernel_size)]
    whole = replace(_kernel(groups.flatten(0, 1), f"{kind}, {module.groups} groups", module.kernel_size), stored=groups)
    pieces = [_kernel(group, f"{kind} group", module.kernel_size) for group in groups]
    labels = _group_labels(module.groups)
    return [whole, *(replace(p, label=label, split="groups") for p, label in zip(pieces, labels, strict=True))]


def _kernel(weight: Tensor, kind: str, kernel: Iterable[int]) -> Part:
    """Read (outputs, inputs, kernel) as outputs by inputs x positions."""
    positions, centre = 1, 0
    for size in kernel:
        positions, centre = positions * size, centre * size + size // 2
    return Part("weight", kind, weight.flatten(1), positions=positions, position=centre, stored=weight)


def _group_labels(count: int) -> list[str]:
    return [f"group{group}" for group in range(count)]


@read_module.register
def _(module: nn.RNNBase) -> list[Part]:
    mode = module.mode.partition("_")[0]
    found = []
    for layer in range(module.num_layers):
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: 2 if module.bidirectional else 1]:
            found += _recurrent(module, mode, f"_{suffix}")
            if module.proj_size:
                name = f"weight_hr_{suffix}"
                found.append(Part(name, f"{mode} projection", getattr(module, name)))
    return found


@read_module.register
def _(module: nn.LSTMCell) -> list[Part]:
    return _recurrent(module, "LSTM", "")


@read_module.register
def _(module: nn.GRUCell) -> list[Part]:
    return _recurrent(module, "GRU", "")


@read_module.register
def _(module: nn.RNNCell) -> list[Part]:
    return _recurrent(module, "RNN", "")


def _recurrent(module: nn.Module, mode: str, suffix: str) -> list[Part]:
    """Read what acts on the input and what acts on the state: all gates in one, then gate by gate."""
    gates = _GATES.get(mode, "")
    found = []
    for side, role in (("ih", "input"), ("hh", "recurrent")):
        name = f"weight_{side}{suffix}"
        view: Tensor = getattr(module, name)
        if not gates:
            found.append(Part(name, f"{mode} {role}", view))
            continue
        whole = Part(name, f"{mode} {role}", view, blocks=len(gates), block=_CANDIDATE)
        found += [whole, *cut(whole, "gates", gates, kind=f"{mode} gate")]
    return found


@read_module.register
def _(module: nn.MultiheadAttention) -> list[Part]:
    count = module.num_heads
    out = Part("out_proj.weight", "attention output", module.out_proj.weight)
    found: list[Part] = []
    if module.in_proj_weight is not None:
        fused = Part("in_proj_weight", "attention input", module.in_proj_weight, blocks=3, block=2)
        found = [fused, *cut(fused, "qkv", "qkv"), *heads(fused, "qkv", count)]
    else:
        for letter in "qkv":
            name = f"{letter}_proj_weight"
            whole = Part(name, "attention input", getattr(module, name))
            found += [whole, *heads(whole, letter, count)]
    return [*found, out, *heads(out, "o", count)]
