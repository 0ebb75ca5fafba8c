"""LPIPS, the perceptual distance between raw and recovered images (JTSC II-C)."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

VGG_BACKBONE: Final = "vgg16-397923af.pth"
VGG_URL: Final = f"https://download.pytorch.org/models/{VGG_BACKBONE}"
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
            recovered: Like ``raw``.

        Returns:
            (B,) distances, 0 for identical images.
        """
        side = min(raw.shape[-2:])
        if side < 31:
            raise ValueError(f"image side {side} is too small for LPIPS; at least 31 pixels are needed")
        distances: torch.Tensor = self._model(raw * 2 - 1, recovered * 2 - 1).flatten()
        return distances


@lru_cache(maxsize=2)
def _load(net: str) -> torch.nn.Module:
    try:
        import lpips
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError("LPIPS needs the extra 'models': pip install 'noma-semcom-env[models]'") from error
    from noma_semcom_env.zoo.loading import ModelLoadError, check_sums

    with warnings.catch_warnings():
        # lpips 0.1.4 builds its trunk with torchvision's old keyword.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
        if net == "vgg":
            model = _load_vgg(lpips)
        else:
            model = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False)
    if net == "alex":
        check_sums(BUNDLED_WEIGHTS.parent)
        weights = {name: value.float() for name, value in load_file(BUNDLED_WEIGHTS).items()}
        heads = {name.replace("lin", "lins.", 1): value for name, value in weights.items() if name.startswith("lin")}
        missing, unexpected = model.load_state_dict(weights | heads, strict=False)
        if unexpected or set(missing) - {"scaling_layer.shift", "scaling_layer.scale"}:
            raise ModelLoadError(
                f"{BUNDLED_WEIGHTS} is not a complete LPIPS model: missing {missing}, extra {unexpected}; install the "
                "package again"
            )
    network: torch.nn.Module = model.eval().requires_grad_(False)
    return network


def _load_vgg(lpips: Any) -> Any:
    import torch

    from noma_semcom_env.zoo.loading import ModelLoadError

    try:
        return lpips.LPIPS(net="vgg", verbose=False)
    except Exception as error:  # of transport, of a file that is cut off, or of one that is no tensors
        home = Path(torch.hub.get_dir()) / "checkpoints"
        raise ModelLoadError(
            f"lpips_net='vgg' needs torchvision's {VGG_BACKBONE}, which could not be had "
            f"({type(error).__name__}: {error}); where there is a network, fetch {VGG_URL}, and put it into {home}"
        ) from error
