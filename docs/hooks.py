"""Writes into the pages what the registry knows, so that an environment cannot be forgotten."""

from __future__ import annotations

from typing import Any

TABLE = "<!-- environment-table -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by one row an id."""
    if TABLE not in markdown:
        return markdown
    from noma_semcom_env.registration import ENVIRONMENTS

    rows = [
        f"| `{row.id}` | {row.controls} | {', '.join(f'`{k}={v!r}`' for k, v in row.knobs.items()) or 'none'} |"
        for row in ENVIRONMENTS
    ]
    head = ["| id | what the agent controls | what differs from the default scenario |", "|---|---|---|"]
    return markdown.replace(TABLE, "\n".join(head + rows))
