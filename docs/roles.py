"""Shows the cross-references of docstrings (``:class:`~package.Name```) as links where the site has the target."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")
MATH = re.compile(r":math:(?=`)")


def _link(role: re.Match[str]) -> str:
    short, target = role.groups()
    text = target.rpartition(".")[2] if short else target
    return f'<autoref optional identifier="{target}"><code>{text}</code></autoref>'


def linked(docstring: str) -> str:
    """The docstring with links in place of its cross-references."""
    return MATH.sub("", ROLE.sub(_link, docstring))


class Roles(griffe.Extension):
    """Rewrites every docstring as it is collected."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that Griffe reads."""
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value)
