"""Where models run. Needs torch."""

from __future__ import annotations

from typing import Final, Protocol

_BUNDLED: Final = ("street", "street_mixture")


class Named(Protocol):
    """A preset of either kind."""

    @property
    def name(self) -> str:
        """The preset's name."""
        ...


def choose_device(preset: Named, device: str | None = None) -> str:
    """The device that a preset's models run on.

    Args:
        preset: The preset.
        device: A name of torch's, such as ``"cuda:1"``; None takes a GPU if there is one, except for the bundled
            models, whose tables are made on a CPU and must agree with live recovery.

    Raises:
        ValueError: If torch knows no such device here.
    """
    import torch

    if device is None:
        return "cuda" if preset.name not in _BUNDLED and torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device={device!r} cannot be used here ({reason}); give 'cpu', or 'cuda' on a GPU") from error
    return device
