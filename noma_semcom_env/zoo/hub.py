"""Where models come from: a folder in the hub's layout, or a hub id that is brought to one.

A hub id ``owner/name`` is looked for in the hub's local cache first and downloaded only if it is not whole there: its
configurations, its tokenizer and the weights of one format. From there on all models are folders.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

_TIMEOUT_S: Final = 10.0
_STEMS: Final = {
    "transformers": ("model", "pytorch_model"),
    "diffusers": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
}
"""Names without extension that a library gives its safetensors and its pickles."""


class ModelLoadError(RuntimeError):
    """A model cannot be loaded; the message names the folder or file and the remedy."""


class _IncompleteError(ModelLoadError):
    """A folder lacks files that its source may have."""


@contextmanager
def explained(problem: str, remedy: str) -> Iterator[None]:
    """Turns any error of the libraries inside the block into one ModelLoadError."""
    try:
        yield
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(f"{problem} ({_reason(error)}); {remedy}") from error


def check_type(path: Path, stated: tuple[str, str], part: str) -> None:
    """Refuse a configuration of another model, of whose class ``from_pretrained`` would build a random one.

    Args:
        path: The configuration.
        stated: The entry that it must have, key and value.
        part: The part's name, for messages.

    Raises:
        ModelLoadError: If it has another, or cannot be read.
    """
    with explained(f"cannot read the configuration {path}", "fetch the file again"):
        kind = json.loads(path.read_text()).get(stated[0])
    if kind != stated[1]:
        raise ModelLoadError(
            f"{path} describes a model of type {kind!r}; the {part} must be of type {stated[1]!r}. "
            "Give the folder or id of one"
        )


class Weights(NamedTuple):
    """The weights that are read of all that a folder offers.

    Attributes:
        file: The weights, or the index of their shards, relative to the model's folder.
        variant: ``"fp16"`` if only half-precision safetensors are there; they are computed with in float32.
        pickled: Whether they are a pickle.
    """

    file: str
    variant: str | None
    pickled: bool

    def among(self, names: Collection[str]) -> list[str]:
        """The files that these weights are of all in their folder, their shards if they are an index.

        Returns:
            Names; none if one is missing.
        """
        if self.file not in names or not self.file.endswith(".json"):
            return [self.file] if self.file in names else []
        stem, kind = self.file.partition(".")[0], "bin" if self.pickled else "safetensors"
        half = rf"\.{self.variant}" if self.variant else ""
        shard = re.compile(rf"{stem}(?:{half}-\d+-of-\d+|-\d+-of-\d+{half})\.{kind}")
        shards = sorted(filter(shard.fullmatch, names))
        # The name of each says how many there are.
        whole = shards and int(shards[0].partition("-of-")[2].partition(".")[0]) == len(shards)
        return [self.file, *shards] if whole else []


@dataclass(frozen=True)
class Layout:
    """What a folder of one kind of model holds.

    Attributes:
        index: The file that shows what the folder is.
        stated: The entry that the index must have, key and value; None if there is none.
        models: Sub-folder of each model (``""`` is the folder itself) and the library that wrote it.
        needed: Groups of files; one of each group must be there.
    """

    index: str
    stated: tuple[str, str] | None
    models: Mapping[str, Literal["transformers", "diffusers"]]
    needed: tuple[tuple[str, ...], ...] = ()

    def check(self, folder: Path, part: str) -> None:
        """Refuse a folder whose index states another kind of model.

        Raises:
            ModelLoadError: If it does, or cannot be read.
        """
        if self.stated:
            check_type(folder / self.index, self.stated, part)

    def choose(self, names: Collection[str], place: str, part: str, allow_bin: bool = False) -> dict[str, Weights]:
        """The weights to read, best first: float32 safetensors, half-precision safetensors, a pickle if allowed.

        Args:
            names: Files, relative to the folder.
            place: The folder or hub id, for messages.
            part: The part's name in a preset, likewise.
            allow_bin: Whether a pickle may be read.

        Returns:
            The weights of each sub-folder.

        Raises:
            ModelLoadError: If a file is missing, or the weights are a pickle that is not allowed.
        """
        folders = (f"{folder}/config.json".lstrip("/") for folder in self.models)
        for group in ((self.index,), *((name,) for name in folders), *self.needed):
            if not any(name in names for name in group):
                missing = " or ".join(f"{place}/{name}" for name in group)
                raise _IncompleteError(f"{missing} is missing, so the {part} cannot be loaded; fetch {place!r} again")
        chosen = {}
        for folder, library in self.models.items():
            home = f"{place}/{folder}".rstrip("/")
            inside = {os.path.basename(name) for name in names if os.path.dirname(name) == folder}
            plain, pickled = _STEMS[library]
            offers = [
                Weights(f"{plain}.safetensors", None, False),
                Weights(f"{plain}.safetensors.index.json", None, False),
                Weights(f"{plain}.fp16.safetensors", "fp16", False),
                Weights(f"{plain}.safetensors.index.fp16.json", "fp16", False),
                Weights(f"{pickled}.bin", None, True),
                Weights(f"{pickled}.bin.index.json", None, True),
            ]
            found = next((one for one in offers if one.among(inside)), None)
            if found is None:
                raise _IncompleteError(f"{home}/{plain}.safetensors is missing; fetch {place!r} again with its weights")
            if found.pickled and not allow_bin:
                raise _IncompleteError(
                    f"{home} has its weights in {found.file} alone, a pickle, which could run code when it is read. "
                    f"Give a {part} with safetensors, or allow it by name, to be read as plain tensors: "
                    f"models={{'preset': ..., 'allow_bin': [{part!r}]}}"
                )
            chosen[folder] = found
        return chosen

    def files(self, names: Collection[str], chosen: Mapping[str, Weights]) -> list[str]:
        """Of all ``names``, configurations, tokenizers and the chosen weights."""
        folders = {os.path.dirname(name) for group in self.needed for name in group} | {"", *chosen}
        wanted = []
        for folder in sorted(folders):
            inside = sorted(os.path.basename(name) for name in names if os.path.dirname(name) == folder)
            texts = [name for name in inside if name.endswith((".json", ".txt"))]
            weights = chosen[folder].among(inside) if folder in chosen else []
            wanted += [os.path.join(folder, name) for name in dict.fromkeys(texts + weights)]
        return wanted

    def command(self, name: str) -> str:
        """The command that fetches a hub id, without what is not needed of a large repository."""
        if set(self.models) == {""}:
            return f"hf download {name}"
        stems = [f"{folder}/{_STEMS[library][0]}" for folder, library in self.models.items()]
        files = ["*.json", "*.txt", *(f"{stem}.safetensors" for stem in stems)]
        command = f"hf download {name} " + " ".join(f"--include '{file}'" for file in files)
        return f"{command}; or, where only half precision is offered, with .fp16.safetensors instead of .safetensors"


def find_folder(
    source: str | os.PathLike[str], layout: Layout, part: str, allow_bin: bool = False
) -> tuple[Path, dict[str, Weights]]:
    """The folder of a source, complete, and the weights to read in each of its sub-folders.

    Args:
        source: Folder or hub id.
        layout: What the folder must hold.
        part: The part's name in a preset, for messages.
        allow_bin: Whether a pickle may be read.

    Raises:
        ModelLoadError: If the source is neither, lacks a file, or offers only a pickle that is not allowed.
    """
    name = hub_id(source, part)
    if name is not None:
        return _bring(name, layout, part, allow_bin)
    folder = Path(source).expanduser()
    if not (folder / layout.index).is_file():
        raise ModelLoadError(
            f"{folder} has no {layout.index}, so it is no {part}'s folder; give the folder that holds {layout.index}"
        )
    return folder, _inside(folder, layout, part, allow_bin)


def hub_id(source: str | os.PathLike[str], part: str = "model") -> str | None:
    """The source if it is a hub id, None if it is an existing folder.

    Raises:
        ModelLoadError: If it is neither.
    """
    text = os.fspath(source)
    if not text:
        raise ModelLoadError(f"the {part}'s source is empty; give a folder or a hub id 'owner/name'")
    folder = Path(text).expanduser()
    if folder.is_dir():
        return None
    if isinstance(source, os.PathLike) or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", text):
        raise ModelLoadError(
            f"the {part}'s folder {folder} does not exist; give an existing folder or a hub id 'owner/name'"
        )
    return text


def commit(name: str) -> str:
    """The commit at which a hub id is cached; of an id that is not, the hub's newest.

    Raises:
        ModelLoadError: If the id is not in the cache and the hub cannot be reached.
    """
    for index in ("model_index.json", "config.json"):
        cached = _cached(name, index)
        if cached is not None:
            return cached.name
    try:
        return str(_listing(name).sha)
    except Exception as error:
        raise _unreachable(name, "is not in the cache", f"hf download {name}", error) from error


def visible_files(folder: Path) -> list[str]:
    """Files below a folder, sorted, without what is hidden (``.git``, ``.cache`` and their like)."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def _bring(name: str, layout: Layout, part: str, allow_bin: bool) -> tuple[Path, dict[str, Weights]]:
    from huggingface_hub import snapshot_download

    cached, state = _cached(name, layout.index), "is not in the cache"
    if cached is not None:
        try:
            return cached, _inside(cached, layout, part, allow_bin)
        except _IncompleteError as error:
            state = f"is not whole in the cache: {error}"
    try:
        names = [file.rfilename for file in _listing(name).siblings or ()]
        chosen = layout.choose(names, name, part, allow_bin)
        # Gigabytes follow only if the index names the right kind of model.
        layout.check(Path(snapshot_download(name, allow_patterns=[layout.index])), part)
        folder = Path(snapshot_download(name, allow_patterns=layout.files(names, chosen)))
    except ModelLoadError:
        raise
    # The many errors of transport, authorization and addresses all mean the same here.
    except Exception as error:
        raise _unreachable(name, state, layout.command(name), error, part) from error
    return folder, _inside(folder, layout, part, allow_bin)


def _inside(folder: Path, layout: Layout, part: str, allow_bin: bool) -> dict[str, Weights]:
    layout.check(folder, part)
    return layout.choose(visible_files(folder), str(folder), part, allow_bin)


def _cached(name: str, index: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, index)
    return Path(found).parent if isinstance(found, str) else None


def _listing(name: str) -> Any:
    from huggingface_hub import HfApi

    return HfApi().model_info(name, timeout=_TIMEOUT_S)


def _unreachable(name: str, state: str, command: str, error: Exception, part: str | None = None) -> ModelLoadError:
    example = f": models={{'preset': ..., {part!r}: 'folder'}}" if part else ""
    return ModelLoadError(
        f"{name!r} {state}, and the hub did not give it ({_reason(error)}). Where there is a network, run: {command}; "
        f"or give a local folder{example}"
    )


def _reason(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"
