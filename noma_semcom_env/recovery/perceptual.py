"""LPIPS, the perceptual distance between raw and recovered images (JTSC II-C)."""

from __future__ import annotations

import copy
import hashlib
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noma_semcom_env.zoo.loading import ModelLoadError, check_sums

if TYPE_CHECKING:
    import torch

VGG_URL: Final = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG_SHA256: Final = "397923af"
"""What the backbone's SHA-256 begins with, as its publishers put it into its name."""

BUNDLED_WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights" / "lpips" / "alex.safetensors"


class PerceptualDistance:
    """LPIPS v0.1 of the ``lpips`` package.

    Args:
        net: ``"alex"`` (bundled backbone and heads) or ``"vgg"`` (heads of the ``lpips`` package on torchvision's
            backbone, which is fetched the first time; both are ``.pth`` files, read as plain tensors).

    Raises:
        ValueError: If ``net`` is unknown.
        ImportError: If the ``models`` extra is not installed.
        ModelLoadError: If the bundled weights are missing or changed, or torchvision's cannot be had.
    """

    def __init__(self, net: str = "alex") -> None:
        if net not in ("alex", "vgg"):
            raise ValueError(f"lpips_net={net!r} is unknown; choose 'alex' (bundled) or 'vgg'")
        self.net = net
        self._model = _load(net)

    def __call__(self, raw: torch.Tensor, recovered: torch.Tensor) -> torch.Tensor:
        """Distance of each pair.

        Args:
            raw: (B, 3, H, W) float images in [0, 1]; sides of at least 31 pixels.
            recovered: Like ``raw``, on the same device.

        Returns:
            (B,) distances, 0 for identical images, where ``recovered`` is.
        """
        side = min(raw.shape[-2:])
        if side < 31:
            raise ValueError(f"image side {side} is too small for LPIPS; at least 31 pixels are needed")
        on_cpu = recovered.device.type == "cpu"
        model = self._model if on_cpu else _load_on(self.net, str(recovered.device))
        distances: torch.Tensor = model(raw * 2 - 1, recovered * 2 - 1).flatten()
        return distances


@lru_cache(maxsize=2)
def _load(net: str) -> torch.nn.Module:
    try:
        import lpips
    except ImportError as error:
        raise ImportError("LPIPS needs the extra 'models': pip install 'noma-semcom-env[models]'") from error

    with warnings.catch_warnings():
        # lpips 0.1.4 builds its trunk with torchvision's old keyword.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
        model = lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
    source, weights = _read_alex() if net == "alex" else _read_vgg(model, Path(lpips.__file__).parent)
    heads = {name.replace("lin", "lins.", 1): value for name, value in weights.items() if name.startswith("lin")}
    missing, unexpected = model.load_state_dict(weights | heads, strict=False)
    if unexpected or set(missing) - {"scaling_layer.shift", "scaling_layer.scale"}:
        raise ModelLoadError(
            f"{source} is not a complete LPIPS model: missing {missing}, extra {unexpected}; install the package again"
        )
    network: torch.nn.Module = model.eval().requires_grad_(False)
    return network


@lru_cache(maxsize=4)
def _load_on(net: str, device: str) -> torch.nn.Module:
    return copy.deepcopy(_load(net)).to(device)


def _read_alex() -> tuple[Path, dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    check_sums(BUNDLED_WEIGHTS.parent)
    return BUNDLED_WEIGHTS, {name: value.float() for name, value in load_file(BUNDLED_WEIGHTS).items()}


def _read_vgg(model: torch.nn.Module, package: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """The backbone of torchvision, in its place in the hub's cache, and the heads of the ``lpips`` package.

    torchvision would unpickle its file; here tensors alone are taken from it, and only if its sum is right.
    """
    import torch

    backbone = Path(torch.hub.get_dir()) / "checkpoints" / VGG_URL.rpartition("/")[2]
    heads = package / "weights" / "v0.1" / "vgg.pth"
    try:
        if not backbone.is_file():
            backbone.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(VGG_URL, str(backbone), VGG_SHA256, progress=False)
        with backbone.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(VGG_SHA256):
            raise ValueError(f"its SHA-256 begins with {found[: len(VGG_SHA256)]}, not with {VGG_SHA256}")
        trunk, weights = (torch.load(path, map_location="cpu", weights_only=True) for path in (backbone, heads))
        for name in model.state_dict():
            if name.startswith("net.slice"):
                weights[name] = trunk["features." + name.removeprefix("net.").partition(".")[2]]
    except Exception as error:  # of transport, of a file that is cut off, or of one that is no tensors
        raise ModelLoadError(
            f"lpips_net='vgg' needs {backbone}, which cannot be had or read ({type(error).__name__}: {error}); delete "
            f"what is there, fetch {VGG_URL} and put it there, or take lpips_net='alex'"
        ) from error
    return backbone, weights
