"""LPIPS is the published metric: it reproduces the distances of its repository's example pair."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from noma_semcom_env.recovery import perceptual
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.zoo.loading import ModelLoadError

EXAMPLE = Path(__file__).parent / "lpips_example"


def _read(name: str) -> torch.Tensor:
    pixels = np.asarray(Image.open(EXAMPLE / f"{name}.png").convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(("name", "published"), [("ex_p0", 0.722), ("ex_p1", 0.138)])
def test_published_distances_hold(name: str, published: float) -> None:
    assert PerceptualDistance()(_read("ex_ref"), _read(name)).item() == pytest.approx(published, abs=1e-3)


def test_an_image_is_at_distance_zero_from_itself() -> None:
    assert PerceptualDistance()(_read("ex_ref"), _read("ex_ref")).item() == 0.0


def test_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match="image side 16"):
        PerceptualDistance()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))


def test_changed_and_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(perceptual.BUNDLED_WEIGHTS.parent, tmp_path / "lpips"))
    weights = folder / perceptual.BUNDLED_WEIGHTS.name
    monkeypatch.setattr(perceptual, "BUNDLED_WEIGHTS", weights)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"alex\.safetensors differs from its SHA-256"):
        perceptual._load.__wrapped__("alex")
    weights.unlink()
    with pytest.raises(ModelLoadError, match=r"alex\.safetensors is missing"):
        perceptual._load.__wrapped__("alex")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision's backbones lie, empty."""
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual, "_load", perceptual._load.__wrapped__)
    return tmp_path / "checkpoints" / "vgg16-397923af.pth"


@pytest.mark.slow
def test_vgg_without_its_backbone_says_which_file_goes_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(ModelLoadError, match=rf"needs {hub}.*no network.*fetch https://.* and put it there"):
        PerceptualDistance("vgg")


class Malicious:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.slow
def test_a_vgg_backbone_that_is_another_file_is_refused_unread(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(Malicious(tmp_path / "made"), hub)
    with pytest.raises(ModelLoadError, match="SHA-256 begins with .*not with 397923af"):
        PerceptualDistance("vgg")
    monkeypatch.setattr(perceptual, "VGG_SHA256", hashlib.sha256(hub.read_bytes()).hexdigest())
    with pytest.raises(ModelLoadError, match="UnpicklingError"):
        PerceptualDistance("vgg")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_vgg_works_where_its_backbone_is(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone of random weights in torchvision's form: the true one is 528 MB that no test may fetch."""
    torch.manual_seed(0)
    trunk = {f"features.{k}": v for k, v in torchvision.models.vgg16().features.state_dict().items()}
    torch.save(trunk, hub)
    monkeypatch.setattr(perceptual, "VGG_SHA256", hashlib.sha256(hub.read_bytes()).hexdigest())
    distance = PerceptualDistance("vgg")
    assert torch.equal(distance._model.net.slice2[1].weight, trunk["features.5.weight"])
    assert distance(_read("ex_ref"), _read("ex_ref")).item() == 0.0
    assert distance(_read("ex_ref"), _read("ex_p0")).item() > distance(_read("ex_ref"), _read("ex_ref") * 0.99).item()
