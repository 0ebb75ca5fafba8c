"""Writes the pages of the environments from the registry, so that none can be forgotten.

Every task has a page of its own: the docstring of its class, the spaces as they are at its default size, and its family
of sizes. The marker in ``environments.md`` becomes a table of all tasks.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from roles import linked

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from noma_semcom_env.registration import Row

TABLE = "<!-- environment-table -->"
OVERVIEW = "environments.md"


def on_config(config: MkDocsConfig) -> None:
    """Put the pages into the navigation, below the overview."""
    for entry in config.nav or []:
        for title, path in entry.items():
            if path == OVERVIEW:
                entry[title] = [{"All ids": OVERVIEW}, *({rows[0].id: _page(rows)} for rows in _tasks())]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages."""
    from mkdocs.structure.files import File

    for path, markdown in environment_pages().items():
        files.append(File.generated(config, path, content=markdown))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by the table."""
    return markdown.replace(TABLE, environment_table()) if TABLE in markdown else markdown


def environment_table() -> str:
    """One row a task, with its page and the ids of its family."""
    lines = ["| id | what the agent controls | not as in the default scenario | other sizes |", "|---|---|---|---|"]
    for first, *family in _tasks():
        others = ", ".join(f"`{row.id}`" for row in family) or "none"
        lines.append(f"| [`{first.id}`]({_page([first])}) | {first.controls} | {_knobs(first)} | {others} |")
    return "\n".join(lines)


def environment_pages() -> dict[str, str]:
    """Path and Markdown of one page a task."""
    return {_page(rows): "\n".join(_describe(rows)) for rows in _tasks()}


def _tasks() -> list[list[Row]]:
    """The rows of each task, its default size first."""
    from noma_semcom_env.registration import ENVIRONMENTS

    tasks: dict[str, list[Row]] = {}
    for row in ENVIRONMENTS:
        tasks.setdefault(re.sub(r"-K\d+N\d+(?=-v)", "", row.id), []).append(row)
    return list(tasks.values())


def _describe(rows: list[Row]) -> Iterator[str]:
    env = _make(rows[0].id)
    yield f"# {rows[0].id}\n"
    yield f"The agent controls: {rows[0].controls}.\n"
    yield f'```python\nimport gymnasium as gym\nimport noma_semcom_env\n\nenv = gym.make("{rows[0].id}")\n```\n'
    module, _, name = rows[0].entry_point.partition(":")
    for title, text in _sections(getattr(importlib.import_module(module), name)):
        yield f"## {title}\n\n{text}\n"
        if title == "Action Space":
            yield f"In `{rows[0].id}`:\n"
            yield from _space_table(env.action_space)
        elif title == "Observation Space":
            yield f"In `{rows[0].id}`:\n"
            yield from _space_table(env.observation_space)
        elif title == "Arguments" and rows[0].knobs:
            yield f"In `{rows[0].id}` and its other sizes instead: {_knobs(rows[0])}.\n"
        elif title == "Description" and len(rows) > 1:
            yield "## Sizes\n"
            yield from _family(rows)


def _sections(environment: type) -> Iterator[tuple[str, str]]:
    """Headings and texts of a class docstring, up to its arguments in Google's form."""
    text = linked(inspect.getdoc(environment) or "").partition("\nArgs:\n")[0]
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.M)
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        yield title, body.strip()


def _space_table(space: Any) -> Iterator[str]:
    from gymnasium.spaces import Dict

    yield "| key | space | numbers |"
    yield "|---|---|---|"
    for key, part in space.items() if isinstance(space, Dict) else [("", space)]:
        yield f"| {f'`{key}`' if key else 'the array'} | `{part}` | {part.shape[0]} |"
    yield ""


def _family(rows: list[Row]) -> Iterator[str]:
    from gymnasium.spaces import flatdim

    from noma_semcom_env.scenario import Scenario

    yield "| id | users K | antennas N | numbers in an action | numbers in an observation |"
    yield "|---|---|---|---|---|"
    for row in rows:
        env, scenario = _make(row.id), Scenario.of(None, row.knobs)
        lengths = " | ".join(str(flatdim(space)) for space in (env.action_space, env.observation_space))
        yield f"| `{row.id}` | {scenario.num_users} | {scenario.num_antennas} | {lengths} |"
    yield "\nAny other size is a keyword away: `num_users`, `num_antennas`.\n"


@cache
def _make(id_: str) -> Any:
    import gymnasium

    import noma_semcom_env  # noqa: F401  (registers the ids)

    return gymnasium.make(id_)


def _page(rows: list[Row]) -> str:
    return f"environments/{rows[0].id}.md"


def _knobs(row: Row) -> str:
    sizes = ("num_users", "num_antennas")
    return ", ".join(f"`{name}={value!r}`" for name, value in row.knobs.items() if name not in sizes) or "nothing"
