"""Archives of arrays: ``.npz`` files without objects, tables among them with a SHA-256 sum over all. NumPy alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

_SUM: Final = "sha256"


@dataclass(frozen=True)
class ArchiveKind:
    """Verified archives of one kind, some of them bundled.

    Attributes:
        name: What errors call one.
        bundled: Folder of the bundled ones.
        format: Number of the format that this version reads and writes, the entry ``format`` of each.
        content: Entries that each must hold.
        maker: How one is made, for an error.
        error: Raised for one that is missing, damaged or of another format.
    """

    name: str
    bundled: Path
    format: int
    content: frozenset[str]
    maker: str
    error: type[ValueError]

    def find(self, source: str | Path) -> Path:
        """The file of a bundled archive's name, or the ``.npz`` path itself, which must be there.

        Raises:
            ValueError: Of the class :attr:`error`, if there is none.
        """
        path = Path(source)
        if path.suffix != ".npz":
            path = self.bundled / f"{source}.npz"
            if not path.is_file():
                known = sorted(p.stem for p in self.bundled.glob("*.npz"))
                raise self.error(
                    f"images={str(source)!r} names no bundled {self.name}; choose one of {known} or the path of an .npz"
                )
        if not path.is_file():
            raise self.error(f"there is no {self.name} at {path}; make one with {self.maker}")
        return path

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of an archive, verified.

        Raises:
            ValueError: Of the class :attr:`error`, if it is damaged, of another format, or lacks an entry.
        """
        try:
            arrays = read_arrays(path)
        except Exception as error:  # zipfile, zlib and NumPy have a dozen for flipped, missing and foreign bytes
            raise self.error(
                f"{self.name} {path} cannot be read ({error}); restore the file or tabulate it again"
            ) from error
        if _SUM not in arrays or str(arrays.pop(_SUM)) != digest(arrays):
            raise self.error(f"{self.name} {path} does not fit its SHA-256 sum; restore the file or tabulate it again")
        if "format" in arrays and int(arrays["format"]) != self.format:
            raise self.error(
                f"{self.name} {path} has format {int(arrays['format'])}; this version reads format {self.format}: "
                "tabulate it again"
            )
        missing = sorted(self.content - arrays.keys())
        if missing:
            raise self.error(f"{self.name} {path} holds no {', '.join(missing)}; tabulate it again")
        return arrays

    def write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays with their sum, the format among them, by a temporary file that is renamed."""
        stamped = {**arrays, "format": np.array(self.format)}
        write_arrays(path, {**stamped, _SUM: np.array(digest(stamped))})


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and contents of arrays."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        total.update(f"{name}:{value.dtype.str}:{value.shape};".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` without objects."""
    # NumPy leaves a file it opened itself open when the archive is damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz``, by a temporary file that is renamed; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes names for flags
    os.replace(part, path)
