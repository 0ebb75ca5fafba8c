"""The one loading path of all models: bundled folders, folders in the hub's layout, hub ids.

``from_pretrained`` is silent where a user must know: a model of another type, missing tensors (which it fills with
random numbers), missing tokenizer files, weights that are not finite, changed files. Each is one clear error here.
Weights are read from safetensors alone, so no pickle is ever loaded, and are always computed with in float32.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

SUMS_FILE: Final = "sha256.json"
CARD_FILE: Final = "card.json"

_NEEDS_MODELS: Final = "reading models needs torch, transformers and diffusers: pip install 'noma-semcom-env[models]'"


class _Kind(NamedTuple):
    """Classes of a kind of model, and the ``model_type`` that its configuration must state."""

    model: str
    processor: str
    model_type: str


KINDS: Final[Mapping[str, _Kind]] = {
    "captioner": _Kind("BlipForConditionalGeneration", "BlipProcessor", "blip"),
    "segmenter": _Kind("UperNetForSemanticSegmentation", "AutoImageProcessor", "upernet"),
}


class ModelLoadError(RuntimeError):
    """A model cannot be loaded; the message names the folder or file and the remedy."""


@contextmanager
def _explained(problem: str, remedy: str) -> Iterator[None]:
    """Turns any error of the libraries inside the block into one ModelLoadError."""
    try:
        yield
    except ModelLoadError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelLoadError(f"{problem} ({type(error).__name__}: {first}); {remedy}") from error


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(_NEEDS_MODELS) from error


@contextmanager
def _without_progress_bars(*libraries: str) -> Iterator[None]:
    """Parts load in a moment; their bars would only break the lines of our own progress."""
    switches = [_import(library).utils.logging for library in libraries]
    shown = [switch for switch in switches if switch.is_progress_bar_enabled()]
    for switch in shown:
        switch.disable_progress_bar()
    try:
        yield
    finally:
        for switch in shown:
            switch.enable_progress_bar()


@_without_progress_bars("transformers")
def load_model(kind: Literal["captioner", "segmenter"], source: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Load an extraction model for inference.

    Args:
        kind: ``"captioner"`` (BLIP) or ``"segmenter"`` (UperNet).
        source: Folder or hub id.

    Returns:
        The model in float32 and evaluation mode, without gradients, and its processor.

    Raises:
        ValueError: If the kind is unknown.
        ModelLoadError: If the source does not hold such a model, complete and unchanged.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; choose one of {sorted(KINDS)}")
    transformers = _import("transformers")
    classes = KINDS[kind]
    name = _resolve(source, "config.json", f"{kind}'s")
    with _explained(f"cannot read the {kind}'s configuration of {name!r}", "fetch the folder again"):
        stated = transformers.PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    if stated != classes.model_type:
        raise ModelLoadError(
            f"{name!r} holds a model of type {stated!r}; a {kind} of type {classes.model_type!r} is needed. "
            "Give the folder or id of one"
        )
    model = _load_part(getattr(transformers, classes.model), name)
    with _explained(f"cannot load the {kind}'s processor from {name!r}", "save the processor beside the model"):
        processor = getattr(transformers, classes.processor).from_pretrained(name)
    if kind == "captioner":
        _check_tokenizer(processor.tokenizer, model.config.text_config.vocab_size, name)
    return model, processor


@_without_progress_bars("transformers", "diffusers")
def load_diffusion(pipeline: str | os.PathLike[str], controlnet: str | os.PathLike[str]) -> Any:
    """Load Stable Diffusion with a ControlNet.

    Args:
        pipeline: Folder or hub id in the layout of a Stable Diffusion pipeline.
        controlnet: Folder or hub id of the ControlNet.

    Returns:
        A ``StableDiffusionControlNetPipeline`` without safety checker, in float32 and evaluation mode.

    Raises:
        ModelLoadError: If a part is missing, incomplete or changed.
    """
    diffusers, transformers = _import("diffusers"), _import("transformers")
    base = _resolve(pipeline, "model_index.json", "Stable Diffusion pipeline's")
    control = _resolve(controlnet, "config.json", "ControlNet's")
    with _explained(f"cannot read {base!r}", "fetch the folder again"):
        index = diffusers.DiffusionPipeline.load_config(base)
    wanted = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": transformers.CLIPTextModel,
    }
    for part, kind in wanted.items():
        stated = (index.get(part) or (None, None))[1]
        if stated != kind.__name__:
            raise ModelLoadError(
                f"{base!r} has {stated!r} as its {part}; {kind.__name__!r} is needed. "
                "Give the folder or id of a Stable Diffusion pipeline"
            )
    parts = {part: _load_part(kind, base, part) for part, kind in wanted.items()}
    with _explained(f"cannot load the tokenizer or scheduler of {base!r}", "fetch the folder again"):
        parts["tokenizer"] = transformers.CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
        _check_tokenizer(parts["tokenizer"], parts["text_encoder"].config.vocab_size, base)
        result = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
            base,
            controlnet=_load_part(diffusers.ControlNetModel, control),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            use_safetensors=True,
            **parts,
        )
    result.set_progress_bar_config(disable=True)
    return result


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file in ``folder`` into its ``sha256.json``, which loading checks."""
    sums = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SUMS_FILE
    }
    (folder / SUMS_FILE).write_text(json.dumps(sums, indent=2) + "\n")


def check_sums(folder: Path) -> None:
    """Compare the files of a folder with its ``sha256.json``; a folder without one is not checked.

    Raises:
        ModelLoadError: If a file is missing or has changed.
    """
    path = folder / SUMS_FILE
    if not path.is_file():
        return
    with _explained(f"cannot read {path}", "fetch the folder again"):
        sums = dict(json.loads(path.read_text()))
    for name, expected in sums.items():
        file = folder / name
        if not file.is_file():
            raise ModelLoadError(f"{file} is missing; install the package again, or fetch the folder again")
        if _sha256(file) != expected:
            raise ModelLoadError(
                f"{file} differs from its SHA-256 in {SUMS_FILE}: it is damaged or was edited. Install the package "
                f"again, fetch the folder again, or, if you meant the change, delete {SUMS_FILE}"
            )


def models_digest(folders: Sequence[str | os.PathLike[str]]) -> str:
    """One SHA-256 over the files of model folders, whatever their place; cards and sums do not count.

    Raises:
        ModelLoadError: If a folder is missing or empty, or does not agree with its sums.
    """
    digest = hashlib.sha256()
    for folder in map(Path, folders):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SUMS_FILE, CARD_FILE))
        if not files:
            raise ModelLoadError(f"{folder} holds no model; install the package again, or give an existing folder")
        check_sums(folder)
        for path in files:
            digest.update(f"{path.relative_to(folder).as_posix()}\n{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _resolve(source: str | os.PathLike[str], index: str, owner: str) -> str:
    """The folder or hub id as ``from_pretrained`` takes it; a folder must hold ``index`` and agree with its sums."""
    text = os.fspath(source)
    if not text:
        raise ModelLoadError(f"the {owner} source is empty; give a folder or a hub id such as 'owner/name'")
    folder = Path(text).expanduser()
    is_path = isinstance(source, os.PathLike) or text.startswith((".", "/", "~", "\\")) or text.count("/") != 1
    if not folder.is_dir():
        if is_path:
            raise ModelLoadError(
                f"the {owner} folder {folder} does not exist; give an existing folder or a hub id 'owner/name'"
            )
        return text
    if not (folder / index).is_file():
        raise ModelLoadError(f"{folder} has no {index}, so it is no {owner} folder; give the folder that holds {index}")
    check_sums(folder)
    return str(folder)


def _load_part(kind: Any, source: str, subfolder: str | None = None) -> Any:
    """One model in float32, complete and finite."""
    import torch

    place = f"{source}/{subfolder}" if subfolder else source
    options: dict[str, Any] = {"subfolder": subfolder} if subfolder else {}
    options["dtype"] = torch.float32
    remedy = "truncated, missing or pickled (.bin) weights cannot be used; fetch the folder with its .safetensors again"
    with _explained(f"cannot load {kind.__name__} from {place!r}", remedy):
        model, report = kind.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("position_ids"))
    missing += sorted(str(key) for key in report.get("mismatched_keys") or ())
    if missing:
        raise ModelLoadError(
            f"{place!r} lacks {len(missing)} weights of {kind.__name__}, such as {missing[0]}; they would be random. "
            "Fetch the folder again, or give one of the right model"
        )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelLoadError(f"weight {name} in {place!r} is not finite; fetch the folder again or train anew")
    return model.eval().requires_grad_(False)


def _check_tokenizer(tokenizer: Any, vocab_size: int, source: str) -> None:
    """A tokenizer without its files has a handful of tokens and no complaint."""
    if not vocab_size // 2 <= len(tokenizer) <= vocab_size:
        raise ModelLoadError(
            f"the tokenizer in {source!r} has {len(tokenizer)} tokens but the model {vocab_size}: its files are "
            "missing or of another model. Put the tokenizer files beside the model"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
