"""A Sphinx directive: one figure in a light and a dark form, with one caption, one label and its data."""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class TwinFigure(SphinxDirective):
    """``{twin-figure} figures/fig-x`` shows fig-x.light.svg or fig-x.dark.svg and offers fig-x.csv."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "name": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        stem = self.arguments[0]
        # The theme hides a caption that is a sibling of the image it hides, so the images have a box.
        twins = nodes.container(classes=["twins"])
        for theme in ("light", "dark"):
            image = nodes.image(uri=f"{stem}.{theme}.svg", alt=self.options["alt"], classes=[f"only-{theme}"])
            twins += image
        figure = nodes.figure("", twins, classes=["twin-figure"])
        self.add_name(figure)
        self.set_source_info(figure)
        text = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, text)
        caption = text.next_node(nodes.paragraph)
        if caption is None:
            raise self.error("a figure needs a caption")
        figure += nodes.caption("", "", *caption.children)
        data = addnodes.download_reference(
            "", "", nodes.Text("the data behind this figure"), reftarget=f"{stem}.csv", refdoc=self.env.docname
        )
        figure += nodes.legend("", nodes.paragraph("", "", data))
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("twin-figure", TwinFigure)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
