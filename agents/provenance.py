"""What made a result: versions, the state of the checkout, and settings as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("noma-semcom-env", "numpy", "gymnasium", "ray", "torch", "diffusers", "transformers")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(file: Path = Path(__file__)) -> dict[str, Any] | None:
    """Commit of the checkout that a source file is tracked in.

    Args:
        file: By default this one, so that an installed package inside somebody's checkout is not taken for it.

    Returns:
        ``commit`` and ``dirty``, whether anything differs from it; None if the file is in no checkout, or without Git.
    """
    source = file.resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(source.parent), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)
        top = git("rev-parse", "--show-toplevel")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("-C", top, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def jsonable(value: Any) -> Any:
    """The value as JSON knows it: null for infinite numbers, classes and functions by name, other objects by type."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(one) for one in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write an object, by a temporary file that is renamed."""
    text = json.dumps(jsonable(content), indent=2, allow_nan=False) + "\n"
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
