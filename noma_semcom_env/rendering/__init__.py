"""Rendering: a step as a picture, in a window or as text.

It only looks: nothing is drawn at random, and no number of an episode depends on whether it is shown. What it needs is
the state, the transition and the dynamics. Pictures need the recovery's ``images`` and ``features``; a recovery of the
user's own that has none is shown without. Pillow draws (:mod:`~noma_semcom_env.rendering.frame`), pygame opens the
window; both load when a frame is asked for, text needs neither.
"""

from noma_semcom_env.rendering.mixture import MixtureRenderer
from noma_semcom_env.rendering.renderer import RENDER_FPS, RENDER_MODES, Renderer

__all__ = ["RENDER_FPS", "RENDER_MODES", "MixtureRenderer", "Renderer"]
