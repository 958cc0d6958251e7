"""A Sphinx extension: what autodoc has to be told of a library whose rooms export names from their files."""

from __future__ import annotations

import ast
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.autodoc import DataDocumenter, FunctionDocumenter
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Called(FunctionDocumenter):
    """Documents a function as it is called; autodoc alone adds every type a ``singledispatch`` function knows."""

    def format_signature(self, **kwargs: Any) -> str:
        return super().format_signature(**kwargs).partition("\n")[0]


class Exported(DataDocumenter):
    """Documents a constant with the words below its assignment; autodoc alone looks only where it is exported."""

    def get_module_comment(self, attrname: str) -> list[str] | None:
        tree = ast.parse(ModuleAnalyzer.for_module(self.modname).code)
        homes = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and attrname in {alias.name for alias in node.names}
        ]
        for home in [self.modname, *homes]:
            words = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", attrname))
            if words:
                return list(words)
        logger.warning("%s has no docstring: write one below its assignment", self.fullname, once=True)
        return None


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.add_autodocumenter(Called, override=True)
    app.add_autodocumenter(Exported, override=True)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
