"""Episodes of Mixture of Semantics environments in frames, in a window or as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from noma_semcom_env.rendering.mixture_view import MixtureView, begun, moved, to_text
from noma_semcom_env.rendering.renderer import EpisodeRenderer, needing_pillow

if TYPE_CHECKING:
    from noma_semcom_env.mixture_parts import Episodes, MixtureTransition
    from noma_semcom_env.rendering.mixture_view import AnyDynamics


class MixtureRenderer(EpisodeRenderer[MixtureView]):
    """Shows the episodes of n environments.

    Args:
        mode: ``"rgb_array"``, ``"ansi"``, or ``"human"``, a window that shows the first environment.
        dynamics: What the environments run.
        num_envs: n.

    Raises:
        ValueError: If the mode is unknown.
        ImportError: If what the mode needs is not installed.
    """

    def __init__(self, mode: str, dynamics: AnyDynamics, num_envs: int = 1) -> None:
        super().__init__(mode, num_envs)
        self.dynamics = dynamics
        self._painter = None
        if mode != "ansi":
            with needing_pillow():
                from noma_semcom_env.rendering.mixture_frame import MixturePainter
            self._painter = MixturePainter(dynamics)

    def _begun(self, state: Episodes, place: int) -> MixtureView:
        return begun(state, place, self.dynamics)

    def _moved(self, view: MixtureView, transition: MixtureTransition, place: int) -> MixtureView:
        return moved(view, transition, place, self.dynamics)

    def _text(self, view: MixtureView) -> str:
        return to_text(view, self.dynamics)

    def _frame(self, view: MixtureView) -> np.ndarray:
        assert self._painter is not None
        return self._painter.paint(view)
