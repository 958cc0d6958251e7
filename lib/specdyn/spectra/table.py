"""Rows of words as a table, in plain text and in HTML."""

from collections.abc import Sequence
from html import escape


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the header first; the last column is as long as it likes.

    >>> print(as_text([("name", "shape", "remark"), ("weight", "2 x 3", "")]))
    name    shape  remark
    weight  2 x 3
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_html(rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """Return rows as an HTML table, the header first, with a caption if there is something to say.

    >>> as_html([("name",), ("<lambda>",)]).count("&lt;lambda&gt;")
    1
    """
    head, *body = [[_unbroken(escape(cell)) for cell in row] for row in rows]
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = ["<tr><td>" + "</td><td>".join(row) + "</td></tr>" for row in body]
    return (
        f'<table class="dataframe">{title}<thead><tr><th>' + "</th><th>".join(head) + "</th></tr></thead>"
        "<tbody>" + "".join(lines) + "</tbody></table>"
    )


def _unbroken(cell: str) -> str:
    """Keep an arrow in one piece, and with what it points to: browsers break lines after its hyphen."""
    return cell.replace("-&gt; ", '<span style="white-space:nowrap">-&gt;&nbsp;</span>')


def by(shape: Sequence[int]) -> str:
    """Return a shape in words.

    >>> by((2, 3))
    '2 x 3'
    """
    return " x ".join(map(str, shape))
