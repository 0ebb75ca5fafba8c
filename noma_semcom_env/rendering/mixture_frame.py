"""One frame of a Mixture of Semantics environment: the rewards on the left, a row for each user on the right."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from noma_semcom_env.mixture.items import grow
from noma_semcom_env.mixture_scenario import MixtureNomaScenario
from noma_semcom_env.rendering.curve import draw_rewards
from noma_semcom_env.rendering.recoveries import remember
from noma_semcom_env.rendering.strokes import (
    ALARM,
    CARD,
    FAINT,
    INK,
    LINE,
    PAPER,
    SOFT,
    USERS,
    Colour,
    badge,
    scaled,
    text_width,
    user_colour,
    write,
)
from noma_semcom_env.rendering.view import seconds

if TYPE_CHECKING:
    from noma_semcom_env.rendering.mixture_view import AnyDynamics, Delivery, Mixture, MixtureView

WIDTH: Final = 980
SHOWN_USERS: Final = 6
"""Users that have a row."""

PARTS: Final[dict[str, Colour]] = {"ROI": USERS[0], "text": USERS[1], "mask": USERS[2]}
"""Colours of what the symbols are spent on; the region is outlined in its own."""

_MARGIN: Final = 12
_LEFT: Final = 336
_TOP: Final = 52
_FOOT: Final = 20
_ROOM: Final = 528
"""Most pixels that the rows take together."""

_OUTLINE: Final = 2
"""Width of a region's outline in pixels of the frame."""


class MixturePainter:
    """Draws views of one dynamics' episodes; the same view gives the same pixels.

    Args:
        dynamics: Holds scenario and items.

    Attributes:
        height: Of a frame, which depends on the number of users.
    """

    def __init__(self, dynamics: AnyDynamics) -> None:
        self._dynamics = dynamics
        self._pictures: dict[Hashable, Image.Image] = {}
        scenario = dynamics.scenario
        self._users = scenario.num_users if isinstance(scenario, MixtureNomaScenario) else 1
        self._rows = range(min(self._users, SHOWN_USERS))
        self._row_height = min(_ROOM // len(self._rows), 232)
        self._side = self._row_height - 42
        self.height = _TOP + self._row_height * len(self._rows) + _FOOT
        self._curve = (_MARGIN, _TOP, _LEFT, self.height - _FOOT - 8)

    def paint(self, view: MixtureView) -> np.ndarray:
        """(height, WIDTH, 3) uint8."""
        frame = Image.new("RGB", (WIDTH, self.height), PAPER)
        draw = ImageDraw.Draw(frame)
        self._draw_head(draw, view)
        draw.rounded_rectangle(self._curve, 8, CARD, LINE)
        write(draw, self._curve[0] + 10, self._curve[1] + 7, "reward of each step", 12, SOFT)
        draw_rewards(draw, self._curve, view.rewards, view.step, self._dynamics.scenario.episode_length)
        longest = max([one.sent.uses for one in view.mixtures if one.sent and np.isfinite(one.sent.uses)] or [0.0])
        for user in self._rows:
            self._draw_user(frame, draw, view.mixtures[user], user, longest)
        self._draw_legend(draw)
        return np.array(frame)

    def _draw_head(self, draw: ImageDraw.ImageDraw, view: MixtureView) -> None:
        scenario = self._dynamics.scenario
        title = "a mixture over one fading channel"
        if isinstance(scenario, MixtureNomaScenario):
            title = f"mixtures over one band of {scenario.bandwidth_hz / 1e6:g} MHz"
        elif scenario.channel == "awgn":
            title = "a mixture over white noise"
        write(draw, _MARGIN + 2, 15, title, 18, INK, bold=True)
        figures = [("step", f"{view.step} / {scenario.episode_length}", INK)]
        if view.latency_s is not None:
            figures.append(("latency", seconds(view.latency_s), ALARM if view.violated else INK))
        if view.cost is not None:
            sent = [one.sent.worth for one in view.mixtures if one.sent]
            figures += [
                ("mean worth", f"{np.mean(sent):.3f}", INK),
                ("cost", f"{view.cost:.3f}", INK),
                ("reward", f"{view.rewards[-1]:.3f}", INK),
                ("return", f"{sum(view.rewards):.2f}", INK),
            ]
        for place, (name, value, ink) in enumerate(figures):
            x = _LEFT + _MARGIN + 6 + 104 * place
            write(draw, x, 7, name, 12, SOFT)
            write(draw, x, 22, value, 18, ink)

    def _draw_legend(self, draw: ImageDraw.ImageDraw) -> None:
        """What the colours of the bars mean."""
        x, y = float(_LEFT + _MARGIN), self.height - _FOOT - 1
        hidden = self._users - len(self._rows)
        if hidden:
            x = write(draw, x, y, f"{hidden} more users not shown.  ", 12, SOFT)
        x = write(draw, x, y, "Channel uses:", 12, SOFT) + 8
        for name, colour in PARTS.items():
            draw.rectangle((x, y + 4, x + 9, y + 13), colour)
            x = write(draw, x + 14, y, name, 12, SOFT) + 12
        write(draw, x, y, "of the region, outlined, the caption and the region's shape", 12, SOFT)

    def _draw_user(
        self, frame: Image.Image, draw: ImageDraw.ImageDraw, one: Mixture, user: int, longest: float
    ) -> None:
        """One row: what was asked for, how its symbols were spent, and what that was worth."""
        left, top = _LEFT + _MARGIN, _TOP + user * self._row_height
        right, bottom = WIDTH - _MARGIN, top + self._row_height - 8
        draw.rounded_rectangle((left, top, right, bottom), 8, CARD, LINE)
        draw.rounded_rectangle((left, top, left + 5, bottom), 2, user_colour(user))
        x = write(draw, left + 16, top + 6, f"SU {user + 1}", 15, INK, bold=True) + 8
        if one.sent is not None and one.sent.place:
            x = badge(draw, x, top + 7, one.sent.place, user_colour(user)) + 8
        write(draw, x, top + 8, _link(one), 13, SOFT)
        if one.sent is not None:
            worth = f"worth {one.sent.worth:.3f}"
            write(draw, right - 16 - text_width(worth, 13), top + 8, worth, 13, INK, bold=True)
        frame.paste(self._picture(one), (left + 16, top + 30))
        x, y, end = left + 28 + self._side, top + 30, right - 12
        items, asked = self._dynamics.items, []
        if self._row_height >= 150:
            asked = [f'asked for: "{items.prompts[one.item]}"', f'sent as text: "{items.captions[one.item]}"']
        for line, text in enumerate(asked):
            write(draw, x, y, _fitting(text, end - x, 13), 13, INK if line == 0 else SOFT)
            y += 19
        y += 4 if asked else 0
        self._draw_uses(draw, (x, y, end), one.sent, longest)
        if one.sent is not None:
            self._draw_terms(draw, (x, y + 33), one.sent, self._row_height >= 150)

    def _draw_uses(
        self, draw: ImageDraw.ImageDraw, place: tuple[int, int, int], sent: Delivery | None, longest: float
    ) -> None:
        """The channel uses as a bar, as long as its share of the longest one, and their numbers beneath."""
        left, top, right = place
        draw.rounded_rectangle((left, top, right, top + 14), 2, PAPER)
        if sent is None:
            write(draw, left, top + 17, "nothing sent yet", 12, FAINT)
            return
        uses = {"ROI": sent.roi_uses, "text": sent.text_uses, "mask": sent.mask_uses}
        scale = (right - left) / max(longest, 1.0)
        x, label = float(left), float(left)
        for name, count in uses.items():
            width = min(count * scale, right - x)
            if width >= 1:
                draw.rectangle((x, top, x + width - 1, top + 14), PARTS[name])
                x += width
            number = f"{count:.0f}" if np.isfinite(count) else "never"
            label = write(draw, label, top + 17, f"{name} {number}", 12, INK if count else FAINT) + 14
        extra = f"alpha {sent.alpha:.1%},  " + (
            f"{sent.symbols_per_token} symbols a token" if sent.symbols_per_token else "too few symbols for a text"
        )
        if label + text_width(extra, 12) <= right:
            write(draw, label, top + 17, extra, 12, SOFT if sent.symbols_per_token else ALARM)

    def _draw_terms(self, draw: ImageDraw.ImageDraw, place: tuple[int, int], sent: Delivery, tall: bool) -> None:
        """Measured figures, and what each adds to the worth."""
        x, y = place
        lost = "" if sent.region_received else "  (region lost)"
        lines = [
            ("PSNR-ROI", f"{sent.psnr_roi_db:.1f} dB{lost}", sent.worth_terms[0], ALARM if lost else INK),
            ("CLIP-RONI", f"{sent.clip_roni:.3f}", sent.worth_terms[1], INK),
            ("wrong tokens", f"{sent.token_error:.0%}", sent.worth_terms[2], INK),
        ]
        if not tall:
            text = "   ".join(f"{name} {value} ({term:+.2f})" for name, value, term, _ in lines)
            write(draw, x, y, _fitting(text, WIDTH - 2 * _MARGIN - x, 12), 12, ALARM if lost else INK)
            return
        for name, value, term, ink in lines:
            write(draw, x, y, name, 13, SOFT)
            write(draw, x + 96, y, value, 13, ink)
            write(draw, x + 250, y, f"{term:+.3f}", 13, INK)
            y += 19

    def _picture(self, one: Mixture) -> Image.Image:
        """The item's picture with its region outlined."""
        return remember(self._pictures, (one.item, one.margin), lambda: self._outlined(one.item, one.margin))

    def _outlined(self, item: int, margin: int) -> Image.Image:
        items, side = self._dynamics.items, self._side
        picture = np.array(scaled(items.pictures[items.picture[item]], side))
        region = items.region(item, margin).astype(np.uint8) * 255
        inside = np.asarray(Image.fromarray(region).resize((side, side), Image.Resampling.BILINEAR)) > 127
        # White beside the colour, so that the line is seen on any ground.
        halo = grow(inside, _OUTLINE)
        picture[halo & ~inside] = CARD
        picture[inside & grow(~inside, _OUTLINE)] = PARTS["ROI"]
        return Image.fromarray(picture)


def _link(one: Mixture) -> str:
    """Distance and SNRs of a row."""
    words = [] if one.distance_m is None else [f"{one.distance_m:.0f} m"]
    words.append(f"SNR {one.snr_db:.1f} dB")
    if one.sent is not None:
        words.append(f"{'after the fade' if one.distance_m is None else 'SINR'} {one.sent.arrives_db:.1f} dB")
        words.append(f"CBR {one.sent.cbr:.3f}")
    return ",  ".join(words)


def _fitting(text: str, room: float, size: int) -> str:
    """A text, cut where it would not fit."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(f"{text}...", size) > room:
        text = text[:-1]
    return f"{text}..."
