"""Hub ids, choice of weights and the full-size repositories' peculiarities, on tiny folders in their layout."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from noma_semcom_env.zoo.hub import Weights
from noma_semcom_env.zoo.loading import ModelLoadError, load_diffusion, load_model, models_digest, write_sums

CONTROL = "diffusion_pytorch_model"
IDS = {
    "diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "controlnet": "lllyasviel/control_v11p_sd15_seg",
    "captioner": "Salesforce/blip-image-captioning-base",
    "segmenter": "openmmlab/upernet-convnext-tiny",
}


class Malicious:
    """Runs a command when it is read, which creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.file}",)


def split(folder: Path, stem: str, shards: int = 2) -> None:
    """Cut safetensors into shards with an index, as large models are."""
    tensors = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    places = {name: f"{stem}-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def test_old_stable_diffusion_loads_with_every_weight_in_its_place(originals: Any) -> None:
    pipeline = load_diffusion(originals.diffusion, originals.controlnet)
    assert pipeline.safety_checker is None
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    assert pipeline.tokenizer("ab a").input_ids == [5, 2, 0, 6]
    written = load_file(originals.diffusion / "text_encoder" / "model.safetensors")
    read = pipeline.text_encoder.state_dict()
    assert {key.removeprefix("text_model.") for key in written} >= read.keys()
    assert all(torch.equal(written[f"text_model.{key}"], read[key]) for key in read)
    written = load_file(originals.diffusion / "vae" / "diffusion_pytorch_model.safetensors")
    read = pipeline.vae.state_dict()
    for key, tensor in written.items():
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items():
            key = key.replace(f".{old}.", f".{new}.")
        assert torch.equal(read[key], tensor)


def test_half_precision_safetensors_stand_in_for_a_pickle_and_are_computed_with_in_float32(originals: Any) -> None:
    assert (originals.controlnet / f"{CONTROL}.bin").is_file()
    model = load_diffusion(originals.diffusion, originals.controlnet).controlnet
    written = load_file(originals.controlnet / f"{CONTROL}.fp16.safetensors")
    assert model.dtype == torch.float32
    assert all(torch.equal(value, written[name].float()) for name, value in model.state_dict().items())


def test_float32_safetensors_come_before_half_precision(tiny: Any) -> None:
    exact = torch.load(tiny.controlnet / f"{CONTROL}.bin", weights_only=True)
    save_file(exact, tiny.controlnet / f"{CONTROL}.safetensors", {"format": "pt"})
    read = load_diffusion(tiny.diffusion, tiny.controlnet).controlnet.state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in exact.items())


@pytest.mark.parametrize("part", ["segmenter", "unet"])
def test_shards_are_read_and_a_missing_one_is_named(tiny: Any, part: str) -> None:
    folder, stem = (tiny.segmenter, "model") if part == "segmenter" else (tiny.diffusion / "unet", CONTROL)
    split(folder, stem)

    def load() -> Any:
        return (
            load_model("segmenter", folder) if part == "segmenter" else load_diffusion(tiny.diffusion, tiny.controlnet)
        )

    load()
    index = json.loads((folder / f"{stem}.safetensors.index.json").read_text())
    index["weight_map"]["one.more"] = "another.safetensors"
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadError, match=r"another\.safetensors is missing"):
        load()


def test_shards_count_only_if_all_are_there() -> None:
    plain = Weights("model.safetensors.index.json", None, False)
    half = Weights("model.safetensors.index.fp16.json", "fp16", False)
    names = [plain.file, "model-00001-of-00002.safetensors", "model.non_ema-00001-of-00002.safetensors"]
    assert plain.among(names) == []
    assert plain.among([*names, "model-00002-of-00002.safetensors"])[1:] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    for name in ("model.fp16-00001-of-00001.safetensors", "model-00001-of-00001.fp16.safetensors"):
        assert half.among([*names, half.file, name]) == [half.file, name]


def test_a_pickle_is_refused_unless_it_is_allowed_by_name(tiny: Any) -> None:
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin alone, a pickle.*'allow_bin': \['captioner'\]"):
        load_model("captioner", tiny.captioner)
    load_model("captioner", tiny.captioner, allow_bin=True)
    (tiny.controlnet / f"{CONTROL}.fp16.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=rf"{CONTROL}\.bin alone.*'allow_bin': \['controlnet'\]"):
        load_diffusion(tiny.diffusion, tiny.controlnet, allow_bin=["diffusion"])
    load_diffusion(tiny.diffusion, tiny.controlnet, allow_bin=["controlnet"])


def test_allowing_a_pickle_does_not_prefer_it(tiny: Any) -> None:
    # The pickle beside the segmenter's safetensors is none and would be refused.
    load_model("segmenter", tiny.segmenter, allow_bin=True)


@pytest.mark.parametrize("write", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content, 2))])
@pytest.mark.parametrize("part", ["captioner", "controlnet", "text_encoder"])
def test_a_malicious_pickle_runs_nothing(tiny: Any, tmp_path: Path, part: str, write: Callable[..., Any]) -> None:
    created = tmp_path / "created"
    folder = tiny.diffusion / part if part == "text_encoder" else getattr(tiny, part)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    file = folder / (f"{CONTROL}.bin" if part == "controlnet" else "pytorch_model.bin")
    write({"weight": Malicious(created)}, file)
    run, arguments = Malicious(created).__reduce__()
    run(*arguments)
    created.unlink()

    def load() -> Any:
        if part == "captioner":
            return load_model("captioner", folder, allow_bin=True)
        return load_diffusion(tiny.diffusion, tiny.controlnet, allow_bin=["diffusion", "controlnet"])

    with pytest.raises(ModelLoadError, match=rf"{file.name} holds more than plain tensors, or is damaged"):
        load()
    assert not created.exists()


def test_blip_ties_what_its_files_hold_once_or_twice(tiny: Any) -> None:
    twice, _ = load_model("captioner", tiny.captioner, allow_bin=True)
    once = tiny.captioner.parent / "once"
    shutil.copytree(tiny.captioner, once)
    twice.save_pretrained(once)
    stored = load_file(once / "model.safetensors")
    assert "text_decoder.cls.predictions.decoder.weight" not in stored
    for model in (twice, load_model("captioner", once)[0]):
        head = model.text_decoder.cls.predictions.decoder.weight
        assert head.data_ptr() == model.text_decoder.bert.embeddings.word_embeddings.weight.data_ptr()
        read = model.state_dict()
        assert all(torch.equal(read[name], tensor) for name, tensor in stored.items())


def test_a_missing_tied_weight_is_still_missing(tiny: Any) -> None:
    tensors = torch.load(tiny.captioner / "pytorch_model.bin", weights_only=True)
    for name in ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"):
        tensors.pop(f"text_decoder.{name}")
    torch.save(tensors, tiny.captioner / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin lacks .* weights.*text_decoder"):
        load_model("captioner", tiny.captioner, allow_bin=True)


def test_blip_words_its_captions_though_its_start_token_has_no_name(originals: Any) -> None:
    from noma_semcom_env.semantics.attribution import attribute_captions

    model, processor = load_model("captioner", originals.captioner, allow_bin=True)
    start = model.config.text_config.bos_token_id
    assert start == len((originals.captioner / "vocab.txt").read_text().split())
    assert processor.tokenizer("red car!", add_special_tokens=False).input_ids == [21, 15, 6]
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    for caption in attribute_captions(model, processor, images):
        assert caption.words == tuple(caption.text.split())


def test_upernet_without_its_auxiliary_head_is_incomplete(tiny: Any) -> None:
    tensors = load_file(tiny.segmenter / "model.safetensors")
    assert any(name.startswith("auxiliary_head.") for name in tensors)
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    save_file({k: v for k, v in tensors.items() if k not in counters}, tiny.segmenter / "model.safetensors")
    load_model("segmenter", tiny.segmenter)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("auxiliary_head.")}
    save_file(tensors, tiny.segmenter / "model.safetensors")
    with pytest.raises(ModelLoadError, match="lacks .* weights.*auxiliary_head"):
        load_model("segmenter", tiny.segmenter)


def test_cached_ids_load_without_network(originals: Any, hub_cache: Callable[[str, Path], Path]) -> None:
    for part, name in IDS.items():
        hub_cache(name, getattr(originals, part))
    load_model("captioner", IDS["captioner"], allow_bin=True)
    load_model("segmenter", IDS["segmenter"])
    load_diffusion(IDS["diffusion"], IDS["controlnet"])


def test_an_id_that_is_not_cached_fails_at_once_without_network(hub_cache: Callable[[str, Path], Path]) -> None:
    begin = time.monotonic()
    with pytest.raises(ModelLoadError) as caught:
        load_model("captioner", IDS["captioner"])
    message = str(caught.value)
    assert time.monotonic() - begin < 5
    assert f"'{IDS['captioner']}' is not in the cache" in message
    assert f"hf download {IDS['captioner']};" in message
    assert "models={'preset': ..., 'captioner': 'folder'}" in message
    with pytest.raises(ModelLoadError, match=rf"hf download {IDS['diffusion']} .*--include 'unet/{CONTROL}"):
        load_diffusion(IDS["diffusion"], IDS["controlnet"])
    # Both precisions would be fetched of a repository that has both.
    with pytest.raises(ModelLoadError) as caught:
        load_diffusion(IDS["diffusion"], IDS["controlnet"])
    command, _, other = str(caught.value).partition("; or, where only half precision is offered, with .fp16")
    assert ".fp16" not in command
    assert other.startswith(".safetensors instead")
    with pytest.raises(ModelLoadError, match="is not in the cache"):
        models_digest([IDS["diffusion"]])


@pytest.mark.parametrize("name", ["tokenizer/merges.txt", f"unet/{CONTROL}.safetensors", "scheduler"])
def test_a_cached_id_that_is_not_whole_names_what_it_lacks(
    originals: Any, hub_cache: Callable[[str, Path], Path], name: str
) -> None:
    path = hub_cache(IDS["diffusion"], originals.diffusion) / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    (path.parent / f"{CONTROL}.bin").unlink(missing_ok=True)
    with pytest.raises(ModelLoadError, match=rf"not whole in the cache: .*{name}.* missing.*hf download"):
        load_diffusion(IDS["diffusion"], originals.controlnet)


def test_a_cached_id_of_another_type_is_named(originals: Any, hub_cache: Callable[[str, Path], Path]) -> None:
    hub_cache("owner/name", originals.segmenter)
    with pytest.raises(ModelLoadError, match=r"config\.json .*'upernet'; the captioner must be of type 'blip'"):
        load_model("captioner", "owner/name")


def test_a_cached_pickle_is_refused_by_its_reason(originals: Any, hub_cache: Callable[[str, Path], Path]) -> None:
    hub_cache(IDS["captioner"], originals.captioner)
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin alone, a pickle.*'allow_bin': \['captioner'\]"):
        load_model("captioner", IDS["captioner"])


class FakeHub:
    """Answers for the hub from local folders, and notes which files were taken."""

    def __init__(self, put: Callable[[str, Path], Path], tmp_path: Path) -> None:
        self.folders: dict[str, Path] = {}
        self.taken: list[str] = []
        self._put, self._staging = put, tmp_path / "staging"

    def model_info(self, name: str, timeout: float) -> SimpleNamespace:
        files = [path.relative_to(self.folders[name]) for path in self.folders[name].rglob("*") if path.is_file()]
        return SimpleNamespace(sha="f" * 40, siblings=[SimpleNamespace(rfilename=file.as_posix()) for file in files])

    def snapshot_download(self, name: str, allow_patterns: list[str]) -> str:
        self.taken = allow_patterns
        target = self._staging / name
        for file in allow_patterns:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folders[name] / file, target / file)
        return str(target)


@pytest.fixture
def fake_hub(hub_cache: Callable[[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    import huggingface_hub

    hub = FakeHub(hub_cache, tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_network_that_fails_is_one_clear_error(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, timeout: float) -> None:
        raise ConnectionError(f"no answer within {timeout} s\nand more")

    monkeypatch.setattr(fake_hub, "model_info", unreachable)
    reason = r"\(ConnectionError: no answer within 10\.0 s\)\. Where there is a network, run: hf download owner/name;"
    with pytest.raises(ModelLoadError, match=reason):
        load_model("segmenter", "owner/name")


def test_only_what_is_needed_is_downloaded(originals: Any, fake_hub: FakeHub) -> None:
    fake_hub.folders = {IDS[part]: folder for part, folder in originals._asdict().items()}
    load_model("captioner", IDS["captioner"], allow_bin=True)
    texts = {"config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt"}
    assert set(fake_hub.taken) == {*texts, "pytorch_model.bin"}
    load_model("segmenter", IDS["segmenter"])
    assert set(fake_hub.taken) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    load_diffusion(IDS["diffusion"], originals.controlnet)
    tokenizer = {f"tokenizer/{name}" for name in ("merges.txt", "tokenizer_config.json", "vocab.json")}
    models = {f"{part}/{file}" for part in ("unet", "vae") for file in ("config.json", f"{CONTROL}.safetensors")}
    encoder = {"text_encoder/config.json", "text_encoder/model.safetensors"}
    scheduler = "scheduler/scheduler_config.json"
    assert set(fake_hub.taken) == {"model_index.json", scheduler, *tokenizer, *models, *encoder}
    load_diffusion(originals.diffusion, IDS["controlnet"])
    assert set(fake_hub.taken) == {"config.json", f"{CONTROL}.fp16.safetensors"}


def test_nothing_large_is_downloaded_of_what_would_be_refused(originals: Any, fake_hub: FakeHub) -> None:
    fake_hub.folders = {IDS["captioner"]: originals.captioner, "owner/name": originals.segmenter}
    with pytest.raises(ModelLoadError, match=rf"{IDS['captioner']} has its weights in pytorch_model\.bin alone"):
        load_model("captioner", IDS["captioner"])
    assert not fake_hub.taken
    shutil.copy(originals.captioner / "vocab.txt", originals.segmenter / "vocab.txt")
    try:
        with pytest.raises(ModelLoadError, match="'upernet'; the captioner must be of type 'blip'"):
            load_model("captioner", "owner/name")
    finally:
        (originals.segmenter / "vocab.txt").unlink()
    assert fake_hub.taken == ["config.json"]


def test_an_id_counts_in_the_digest_by_its_commit(
    originals: Any, hub_cache: Callable[[str, Path], Path], fake_hub: FakeHub
) -> None:
    snapshot = hub_cache("owner/name", originals.segmenter)
    expected = hashlib.sha256(f"hub:owner/name@{snapshot.name}\n".encode()).hexdigest()
    assert models_digest(["owner/name"]) == expected
    fake_hub.folders = {"owner/other": originals.segmenter}
    assert models_digest(["owner/other"]) == hashlib.sha256(f"hub:owner/other@{'f' * 40}\n".encode()).hexdigest()


def test_the_digest_sees_files_and_not_their_place_nor_what_is_hidden(tiny: Any, originals: Any) -> None:
    digest = models_digest([originals.segmenter])
    for hidden in (".cache/huggingface/x", ".git/HEAD", ".gitattributes"):
        (tiny.segmenter / hidden).parent.mkdir(parents=True, exist_ok=True)
        (tiny.segmenter / hidden).write_text("hidden")
    write_sums(tiny.segmenter)
    assert models_digest([tiny.segmenter]) == digest
    (tiny.segmenter / "sha256.json").unlink()
    (tiny.segmenter / "preprocessor_config.json").write_text("{}")
    assert models_digest([tiny.segmenter]) != digest
    (tiny.segmenter.parent / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(ModelLoadError, match=f"{folder} (holds no model|does not exist)"):
            models_digest([tiny.segmenter.parent / folder])


def preset_of(folders: Any, **swapped: Any) -> dict[str, Any]:
    """A full-size preset whose parts are the tiny folders."""
    parts = {part: str(folder) for part, folder in folders._asdict().items()}
    return {"preset": "sd15", **parts, "allow_bin": ["captioner"], **swapped}


def test_four_folders_make_an_extractor(originals: Any) -> None:
    from noma_semcom_env.semantics.extraction import load_extractor

    models = preset_of(originals, max_features=5)
    extractor = load_extractor(models)
    assert load_extractor(dict(reversed(models.items()))) is extractor
    assert "bed" in extractor.classes
    assert set(extractor.codebook.words) >= {"car", "sky"}
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    for one in extractor.extract(images, ["a", "b"]):
        assert 1 <= len(one.masks) <= one.count <= 5
        assert one.masks.shape[1:] == (64, 64)
        assert (one.size_bits > 0).all()
        for position, phrase in enumerate(one.phrases):
            code = extractor.codebook.encode_phrase(phrase, position)
            assert extractor.codebook.decode(code, (64, 64))[0].text == phrase  # type: ignore[union-attr]


def test_a_segmenter_whose_classes_have_no_colour_or_count_is_refused(originals: Any) -> None:
    from noma_semcom_env.semantics.extraction import load_extractor

    with pytest.raises(ValueError, match=r"palette lacks.*'bed', 'building', 'pool table', 'wall'.*models=\{'palette'"):
        load_extractor(preset_of(originals, palette={name: [1, 2, 3] for name in ("sky", "car", "tree", "road")}))
    with pytest.raises(ValueError, match=r"codebook lacks.*'bed'.*models=\{'codebook': None\}"):
        load_extractor({"segmenter": str(originals.segmenter)})


def test_a_device_that_is_not_there_is_named(originals: Any) -> None:
    from noma_semcom_env.semantics.extraction import load_extractor

    with pytest.raises(ValueError, match="device='nowhere'"):
        load_extractor(preset_of(originals), device="nowhere")
