"""Episodes of n environments in frames, in a window or as text."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np
from gymnasium.error import ResetNeeded

from noma_semcom_env.rendering.recoveries import Recoveries
from noma_semcom_env.rendering.view import Episode, View, sent_of, to_text

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import Dynamics, State, Transition
    from noma_semcom_env.rendering.frame import Painter

RENDER_MODES: Final = ("rgb_array", "human", "ansi")
RENDER_FPS: Final = 10

ViewT = TypeVar("ViewT")
"""What one frame shows."""


class EpisodeRenderer(ABC, Generic[ViewT]):
    """Shows the episodes of n environments; what a frame shows of one is gathered in a view.

    Args:
        mode: ``"rgb_array"``, ``"ansi"``, or ``"human"``, a window that shows the first environment.
        num_envs: n.

    Raises:
        ValueError: If the mode is unknown.
        ImportError: If what the mode needs is not installed.
    """

    def __init__(self, mode: str, num_envs: int = 1) -> None:
        if mode not in RENDER_MODES:
            raise ValueError(f"render_mode={mode!r} is not offered; choose one of {RENDER_MODES} or None")
        self.mode = mode
        self._views: list[ViewT | None] = [None] * num_envs
        self._window = _Window() if mode == "human" else None

    @abstractmethod
    def _begun(self, state: Any, place: int) -> ViewT:
        """What a frame shows of the episode at ``place`` of a batch that begins, or goes on from a saved state."""

    @abstractmethod
    def _moved(self, view: ViewT, transition: Any, place: int) -> ViewT:
        """What it shows after a step."""

    @abstractmethod
    def _text(self, view: ViewT) -> str:
        """The frame of mode ``"ansi"``."""

    @abstractmethod
    def _frame(self, view: ViewT) -> np.ndarray:
        """(height, width, 3) uint8, the frame of the other modes."""

    def begin(self, state: Any, rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Take note of new episodes.

        Args:
            state: Their states.
            rows: The environments that they belong to, in the order of the state; None is all of them.
        """
        rows = self._rows(rows)
        for place, row in enumerate(rows):
            self._views[row] = self._begun(state, place)
        self._show(rows)

    def record(self, transition: Any, rows: Sequence[int] | np.ndarray | None = None) -> None:
        """Take note of a step.

        Args:
            transition: What it led to.
            rows: The environments that moved, as in :meth:`begin`.
        """
        rows = self._rows(rows)
        for place, row in enumerate(rows):
            self._views[row] = self._moved(self._view(row), transition, place)
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
        if self.mode == "ansi":
            return tuple(self._text(view) for view in views)
        return tuple(self._frame(view) for view in views)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _show(self, rows: Sequence[int] | np.ndarray) -> None:
        """Put the first environment's frame into the window, if that is one of those that changed."""
        if self._window is not None and not self._window.closed and 0 in rows:
            self._window.show(self._frame(self._view(0)))

    def _view(self, row: int) -> ViewT:
        view = self._views[row]
        if view is None:
            raise ResetNeeded("no episode is under way; call reset() before render()")
        return view

    def _rows(self, rows: Sequence[int] | np.ndarray | None) -> Sequence[int] | np.ndarray:
        return range(len(self._views)) if rows is None else rows


class Renderer(EpisodeRenderer[View]):
    """Shows the episodes of n environments of ``NomaSemCom-v0``.

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
        super().__init__(mode, num_envs)
        self.dynamics = dynamics
        self._painter = None if mode == "ansi" else _make_painter(dynamics, recovered)

    def _begun(self, state: State, place: int) -> View:
        spacing = self.dynamics.scenario.antenna_spacing_wavelengths
        episode = Episode(state.image_index[place], state.distances_m[place], state.channels[place], spacing)
        return View(episode, int(state.elapsed[place]))

    def _moved(self, view: View, transition: Transition, place: int) -> View:
        reward, step = float(transition.reward[place]), int(transition.state.elapsed[place])
        sent = sent_of(transition, place, self.dynamics.scenario.access == "noma")
        return replace(view, step=step, rewards=(*view.rewards, reward), sent=sent)

    def _text(self, view: View) -> str:
        return to_text(view, self.dynamics)

    def _frame(self, view: View) -> np.ndarray:
        assert self._painter is not None
        return self._painter.paint(view)


def _make_painter(dynamics: Dynamics, recovered: bool | None) -> Painter:
    with needing_pillow():
        from noma_semcom_env.rendering.frame import Painter
    asked = dynamics.scenario.recovery == "live" if recovered is None else recovered
    return Painter(dynamics, Recoveries(dynamics) if asked else None)


@contextmanager
def needing_pillow() -> Iterator[None]:
    """Tells what to install where Pillow is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError("frames need Pillow: pip install 'noma-semcom-env[render]'") from error


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
