"""Episodes of n environments in frames, in a window or as text."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np
from gymnasium.error import ResetNeeded

from noma_semcom_env.rendering.recoveries import Recoveries
from noma_semcom_env.rendering.view import Episode, View, sent_of, to_text

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import Dynamics, State, Transition
    from noma_semcom_env.rendering.frame import Painter

RENDER_MODES: Final = ("rgb_array", "human", "ansi")
RENDER_FPS: Final = 10


class Renderer:
    """Shows the episodes of n environments.

    Args:
        mode: ``"rgb_array"``, ``"ansi"``, or ``"human"``, a window that shows the first environment.
        dynamics: What the environments run.
        num_envs: n.
        recovered: Whether the pictures show recovered images. The pipeline draws them, which takes about 150 ms for
            each new selection of features, and loads the models; so None shows them only where ``recovery="live"``
            does all of that anyway.

    Raises:
        ValueError: If the mode is unknown, or recovered images are asked of a recovery that has no features.
        ImportError: If what the mode needs is not installed.
    """

    def __init__(self, mode: str, dynamics: Dynamics, num_envs: int = 1, recovered: bool | None = None) -> None:
        if mode not in RENDER_MODES:
            raise ValueError(f"render_mode={mode!r} is not offered; choose one of {RENDER_MODES} or None")
        self.mode = mode
        self.dynamics = dynamics
        self._views: list[View | None] = [None] * num_envs
        self._window = _Window() if mode == "human" else None
        self._painter = None if mode == "ansi" else _make_painter(dynamics, recovered)

    def begin(self, state: State, rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Take note of new episodes.

        Args:
            state: Their states.
            rows: The environments that they belong to, in the order of the state; None is all of them.
        """
        spacing = self.dynamics.scenario.antenna_spacing_wavelengths
        rows = self._rows(rows)
        for place, row in enumerate(rows):
            episode = Episode(state.image_index[place], state.distances_m[place], state.channels[place], spacing)
            self._views[row] = View(episode, int(state.elapsed[place]))
        self._show(rows)

    def record(self, transition: Transition, rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Take note of a step.

        Args:
            transition: What it led to.
            rows: The environments that moved, as in :meth:`begin`.
        """
        rows = self._rows(rows)
        for place, row in enumerate(rows):
            reward, step = float(transition.reward[place]), int(transition.state.elapsed[place])
            view = self._view(row)
            sent = sent_of(transition, place, self.dynamics.scenario.access == "noma")
            self._views[row] = replace(view, step=step, rewards=(*view.rewards, reward), sent=sent)
        self._show(rows)

    def render(self) -> tuple[np.ndarray, ...] | tuple[str, ...] | None:
        """A frame of each environment.

        Returns:
            (height, width, 3) uint8 each, or a text each, or None in mode ``"human"``, which shows its frames by
            itself.

        Raises:
            ResetNeeded: If an episode has not begun.
        """
        if self._window is not None:
            return None
        views = [self._view(row) for row in range(len(self._views))]
        if self._painter is None:
            return tuple(to_text(view, self.dynamics) for view in views)
        return tuple(self._painter.paint(view) for view in views)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _show(self, rows: Sequence[int] | np.ndarray) -> None:
        """Put the first environment's frame into the window, if that is one of those that changed."""
        if self._window is not None and self._painter is not None and not self._window.closed and 0 in rows:
            self._window.show(self._painter.paint(self._view(0)))

    def _view(self, row: int) -> View:
        view = self._views[row]
        if view is None:
            raise ResetNeeded("no episode is under way; call reset() before render()")
        return view

    def _rows(self, rows: Sequence[int] | np.ndarray | None) -> Sequence[int] | np.ndarray:
        return range(len(self._views)) if rows is None else rows


def _make_painter(dynamics: Dynamics, recovered: bool | None) -> Painter:
    try:
        from noma_semcom_env.rendering.frame import Painter
    except ModuleNotFoundError as error:
        raise ImportError("frames need Pillow: pip install 'noma-semcom-env[render]'") from error
    asked = dynamics.scenario.recovery == "live" if recovered is None else recovered
    return Painter(dynamics, Recoveries(dynamics) if asked else None)


class _Window:
    """A window of pygame's; closed by its button it stays closed, and the environment runs on without it."""

    def __init__(self) -> None:
        if find_spec("pygame") is None:
            raise ImportError("render_mode='human' needs pygame: pip install 'noma-semcom-env[render]'")
        self.closed = False
        self._shown_at = -np.inf

    def show(self, frame: np.ndarray) -> None:
        """Show an (height, width, 3) uint8 frame, no sooner than one period after the last."""
        import pygame

        size = (frame.shape[1], frame.shape[0])
        if not pygame.display.get_init():
            # Finished pictures need no OpenGL; Mesa's would bring an LLVM along, beside which PyTorch's Triton crashes.
            os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
            pygame.display.init()
        screen = pygame.display.get_surface()
        if screen is None:
            screen = pygame.display.set_mode(size)
            pygame.display.set_caption("noma-semcom-env")
        time.sleep(max(0.0, min(1.0, self._shown_at + 1.0 / RENDER_FPS - time.perf_counter())))
        self._shown_at = time.perf_counter()
        screen.blit(pygame.image.frombuffer(frame.tobytes(), size, "RGB"), (0, 0))
        pygame.display.flip()
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()

    def close(self) -> None:
        """Close it for good."""
        import pygame

        if not self.closed and self._shown_at > -np.inf:
            pygame.display.quit()
        self.closed = True
