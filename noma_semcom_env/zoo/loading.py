"""The one loading path of all models: bundled folders, folders in the hub's layout, hub ids.

``from_pretrained`` is silent where a user must know: a model of another type, missing tensors (which it fills with
random numbers), missing tokenizer files, weights that are not finite, changed files. Each is one clear error here.
Weights are read from safetensors, or from a pickle that was allowed by name, of which only plain tensors are taken;
they are always computed with in float32. No code that comes with a model is ever run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from noma_semcom_env.zoo.hub import (
    Layout,
    Weights,
    check_type,
    commit,
    explained,
    find_folder,
    hub_id,
    visible_files,
)
from noma_semcom_env.zoo.hub import ModelLoadError as ModelLoadError
from noma_semcom_env.zoo.presets import Preset

SUMS_FILE: Final = "sha256.json"
CARD_FILE: Final = "card.json"

_NEEDS_MODELS: Final = "reading models needs torch, transformers and diffusers: pip install 'noma-semcom-env[models]'"
_PROCESSOR: Final = ("preprocessor_config.json", "processor_config.json")
_BERT: Final = ("tokenizer.json", "vocab.txt")
_CLIP: Final = (("tokenizer.json", "vocab.json"), ("tokenizer.json", "merges.txt"))


class _Kind(NamedTuple):
    """Classes of a kind of model and its folder's layout."""

    model: str
    processor: str
    layout: Layout


def _kind(model: str, processor: str, model_type: str, *files: tuple[str, ...]) -> _Kind:
    """A model of transformers in a folder of its own; of each of ``files`` one must be there."""
    return _Kind(
        model, processor, Layout("config.json", ("model_type", model_type), {"": "transformers"}, (_PROCESSOR, *files))
    )


KINDS: Final[Mapping[str, _Kind]] = {
    "captioner": _kind("BlipForConditionalGeneration", "BlipProcessor", "blip", _BERT),
    "segmenter": _kind("UperNetForSemanticSegmentation", "AutoImageProcessor", "upernet"),
    "sam": _kind("SamModel", "SamProcessor", "sam"),
    "grounding-dino": _kind("GroundingDinoForObjectDetection", "GroundingDinoProcessor", "grounding-dino", _BERT),
    "clip": _kind("CLIPModel", "CLIPProcessor", "clip", *_CLIP),
}
_READERS: Final = ("captioner", "grounding-dino", "clip")
"""Kinds with a tokenizer."""

DIFFUSION: Final = Layout(
    "model_index.json",
    None,
    {"vae": "diffusers", "unet": "diffusers", "text_encoder": "transformers"},
    (("scheduler/scheduler_config.json",), *(tuple(f"tokenizer/{name}" for name in group) for group in _CLIP)),
)
CONTROLNET: Final = Layout("config.json", ("_class_name", "ControlNetModel"), {"": "diffusers"})

# Buffers that inference computes anew or does not use; old files lack them or hold them in excess.
_NOT_LEARNED: Final = ("position_ids", "num_batches_tracked")


def import_models(name: str) -> Any:
    """A library of the extra ``models``.

    Raises:
        ImportError: If it is not installed, with the extra to install.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(_NEEDS_MODELS) from error


@contextmanager
def without_progress_bars(*libraries: str) -> Iterator[None]:
    """Parts load in a moment; their bars would only break the lines of our own progress."""
    switches = [import_models(library).utils.logging for library in libraries]
    shown = [switch for switch in switches if switch.is_progress_bar_enabled()]
    for switch in shown:
        switch.disable_progress_bar()
    try:
        yield
    finally:
        for switch in shown:
            switch.enable_progress_bar()


@without_progress_bars("transformers")
def load_model(
    kind: Literal["captioner", "segmenter", "sam", "grounding-dino", "clip"],
    source: str | os.PathLike[str],
    allow_bin: bool = False,
    part: str | None = None,
) -> tuple[Any, Any]:
    """Load a model of transformers and its processor for inference.

    Args:
        kind: ``"captioner"`` (BLIP), ``"segmenter"`` (UperNet), ``"sam"``, ``"grounding-dino"`` or ``"clip"``.
        source: Folder or hub id.
        allow_bin: Whether weights may come from a ``.bin`` pickle where there are no safetensors; only plain tensors
            are taken from it.
        part: What errors call it, its name in a preset; None is the kind.

    Returns:
        The model in float32 and evaluation mode, without gradients, and its processor.

    Raises:
        ValueError: If the kind is unknown.
        ModelLoadError: If the source does not hold such a model, complete and unchanged.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; choose one of {sorted(KINDS)}")
    transformers = import_models("transformers")
    classes = KINDS[kind]
    folder, weights = find_unchanged(source, classes.layout, part or kind, allow_bin)
    model = load_part(getattr(transformers, classes.model), folder, "", weights[""])
    with explained(f"cannot load the {kind}'s processor from {str(folder)!r}", "fetch its files again"):
        processor = getattr(transformers, classes.processor).from_pretrained(folder, local_files_only=True)
    if kind in _READERS:
        _check_tokenizer(processor.tokenizer, model.config.text_config.vocab_size, folder)
    if kind == "captioner":
        _name_the_ends(processor.tokenizer, model.config.text_config)
    return model, processor


@without_progress_bars("transformers", "diffusers")
def load_diffusion(
    pipeline: str | os.PathLike[str], controlnet: str | os.PathLike[str], allow_bin: Collection[str] = ()
) -> Any:
    """Load Stable Diffusion with a ControlNet.

    Args:
        pipeline: Folder or hub id in the layout of a Stable Diffusion pipeline.
        controlnet: Folder or hub id of the ControlNet.
        allow_bin: ``"diffusion"``, ``"controlnet"`` or both, whose weights may come from a ``.bin`` pickle where there
            are no safetensors; only plain tensors are taken from it.

    Returns:
        A ``StableDiffusionControlNetPipeline`` without safety checker, in float32 and evaluation mode.

    Raises:
        ModelLoadError: If a part is missing, incomplete or changed, or the two do not fit each other.
    """
    diffusers = import_models("diffusers")
    base, parts = load_networks(pipeline, "diffusion", "diffusion" in allow_bin)
    control, control_weights = find_unchanged(controlnet, CONTROLNET, "controlnet", "controlnet" in allow_bin)
    parts["controlnet"] = load_part(diffusers.ControlNetModel, control, "", control_weights[""])
    widths = {name: parts[name].config.cross_attention_dim for name in ("unet", "controlnet")}
    widths["text_encoder"] = parts["text_encoder"].config.hidden_size
    if len(set(widths.values())) > 1:
        raise ModelLoadError(
            f"the widths of the text embeddings differ, {widths}, so {str(control)!r} was not made for {str(base)!r}; "
            "give a ControlNet of that Stable Diffusion"
        )
    result = put_together(diffusers.StableDiffusionControlNetPipeline, base, parts)
    result.set_progress_bar_config(disable=True)
    return result


def load_networks(source: str | os.PathLike[str], name: str, allow_bin: bool) -> tuple[Path, dict[str, Any]]:
    """The autoencoder, UNet and text encoder of a Stable Diffusion, whatever its pipeline.

    Args:
        source: Folder or hub id.
        name: What errors call it.
        allow_bin: Whether weights may come from a ``.bin`` pickle.

    Returns:
        The folder, and the networks as ``vae``, ``unet`` and ``text_encoder``.

    Raises:
        ModelLoadError: If one is missing, incomplete, changed or of another type.
    """
    diffusers, transformers = import_models("diffusers"), import_models("transformers")
    folder, weights = find_unchanged(source, DIFFUSION, name, allow_bin)
    classes = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": transformers.CLIPTextModel,
    }
    for part, kind in classes.items():
        of_diffusers = DIFFUSION.models[part] == "diffusers"
        stated = ("_class_name", kind.__name__) if of_diffusers else ("model_type", kind.config_class.model_type)
        check_type(folder / part / "config.json", stated, part)
    return folder, {part: load_part(kind, folder, part, weights[part]) for part, kind in classes.items()}


def put_together(kind: Any, folder: Path, parts: Mapping[str, Any]) -> Any:
    """A pipeline of loaded networks with the tokenizer and scheduler of their folder, without safety checker.

    Args:
        kind: Class of diffusers.
        folder: Of :func:`load_networks`.
        parts: The networks by their names in the pipeline.

    Raises:
        ModelLoadError: If the tokenizer or scheduler cannot be loaded.
    """
    transformers = import_models("transformers")
    with explained(f"cannot load the tokenizer or scheduler of {str(folder)!r}", "fetch the folder again"):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        _check_tokenizer(tokenizer, parts["text_encoder"].config.vocab_size, folder / "tokenizer")
        return kind.from_pretrained(
            folder,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
            local_files_only=True,
            tokenizer=tokenizer,
            **parts,
        )


def resolution_of(preset: Preset) -> int:
    """Side in pixels of the images that a preset's pipeline makes, from its configuration alone.

    Raises:
        ModelLoadError: If the pipeline's folder lacks a file or cannot be had.
    """
    folder, _ = find_folder(preset.diffusion, DIFFUSION, "diffusion", "diffusion" in preset.allow_bin)
    with explained(f"cannot read the configuration of {str(folder)!r}", "fetch the folder again"):
        unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
        return int(unet["sample_size"]) << len(vae["block_out_channels"]) - 1


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
    with explained(f"cannot read {path}", "fetch the folder again"):
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


def models_digest(sources: Sequence[str | os.PathLike[str]]) -> str:
    """One SHA-256 over models, by what they are and not where.

    A folder counts by its files, except hidden ones, cards and sums; a hub id by its commit, so that nothing of it is
    read.

    Raises:
        ModelLoadError: If a folder is missing or empty, or does not agree with its sums, or an id cannot be resolved.
    """
    digest = hashlib.sha256()
    for source in sources:
        name = hub_id(source)
        if name is not None:
            digest.update(f"hub:{name}@{commit(name)}\n".encode())
            continue
        folder = Path(source).expanduser()
        files = [file for file in visible_files(folder) if Path(file).name not in (SUMS_FILE, CARD_FILE)]
        if not files:
            raise ModelLoadError(f"{folder} holds no model; install the package again, or give an existing folder")
        check_sums(folder)
        for file in files:
            digest.update(f"{file}\n{_sha256(folder / file)}\n".encode())
    return digest.hexdigest()


def find_unchanged(
    source: str | os.PathLike[str], layout: Layout, part: str, allow_bin: bool
) -> tuple[Path, dict[str, Weights]]:
    """The folder of a model and its weights by part, a local one's files compared with its sums.

    Args:
        source: Folder or hub id.
        layout: What it must hold.
        part: What errors call it.
        allow_bin: Whether weights may come from a ``.bin`` pickle.

    Raises:
        ModelLoadError: If a file is missing or has changed.
    """
    if hub_id(source, part) is None:
        check_sums(Path(source).expanduser())
    return find_folder(source, layout, part, allow_bin)


def load_part(kind: Any, folder: Path, subfolder: str, weights: Weights) -> Any:
    """One model in float32 and evaluation mode, complete and finite.

    Args:
        kind: Class of transformers or diffusers.
        folder: Of :func:`find_unchanged`.
        subfolder: The part's; empty is the folder itself.
        weights: The part's.

    Raises:
        ModelLoadError: If a weight is missing or not finite, or the file is damaged.
    """
    import torch

    file = folder / subfolder / weights.file
    _check_weights(file, weights.pickled)
    options: dict[str, Any] = {"subfolder": subfolder} if subfolder else {}
    options |= {"use_safetensors": not weights.pickled, "variant": weights.variant, "local_files_only": True}
    with explained(f"cannot load {kind.__name__} from {file}", "fetch the file again, or give one of the right model"):
        model, report = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.endswith(_NOT_LEARNED))
    missing += sorted(str(key) for key in report.get("mismatched_keys") or ())
    if missing:
        raise ModelLoadError(
            f"{file} lacks {len(missing)} weights of {kind.__name__}, such as {missing[0]}; they would be random. "
            "Fetch the file again, or give one of the right model"
        )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelLoadError(f"weight {name} in {file} is not finite; fetch the file again or train anew")
    return model.eval().requires_grad_(False)


def _check_weights(file: Path, pickled: bool) -> None:
    """Every shard is there, whole, and plain tensors: the libraries' own errors do not name the file."""
    import torch
    from safetensors import safe_open

    shards = [file]
    if file.suffix == ".json":
        with explained(f"cannot read {file}", "fetch the file again"):
            shards = [file.parent / name for name in sorted(set(json.loads(file.read_text())["weight_map"].values()))]
    for shard in shards:
        if not shard.is_file():
            raise ModelLoadError(f"{shard} is missing, though {file.name} names it; fetch the file")
        try:
            if pickled:
                # A pickle read so can hold tensors but run nothing; both libraries read it like this once more.
                torch.load(shard, map_location="meta", weights_only=True)
            else:
                with safe_open(shard, framework="pt"):
                    pass
        except Exception as error:
            state = "holds more than plain tensors, or is damaged" if pickled else "is truncated or no safetensors"
            raise ModelLoadError(f"{shard} {state}, so it is not read; fetch it again, or give safetensors") from error


def _check_tokenizer(tokenizer: Any, vocab_size: int, folder: Path) -> None:
    """A tokenizer without its files has a handful of tokens and no complaint."""
    if not vocab_size // 2 <= len(tokenizer) <= vocab_size:
        raise ModelLoadError(
            f"the tokenizer in {str(folder)!r} has {len(tokenizer)} tokens but the model {vocab_size}: its files are "
            "damaged or of another model. Put the tokenizer files beside the model"
        )


def _name_the_ends(tokenizer: Any, config: Any) -> None:
    """Give BLIP's two tokens beyond BERT's vocabulary their names, which its tokenizer's files on the hub lack."""
    if len(tokenizer) == config.bos_token_id:
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
        if len(tokenizer) < config.vocab_size:
            tokenizer.add_special_tokens({"extra_special_tokens": ["[ENC]"]})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
