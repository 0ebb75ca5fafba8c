"""One frame of a rendering, drawn with Pillow: the cell on the left, a row for each user on the right."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageDraw

from noma_semcom_env.link.channel import steering_vector
from noma_semcom_env.link.sic import squared_magnitude
from noma_semcom_env.rendering.curve import draw_rewards
from noma_semcom_env.rendering.recoveries import Recoveries, remember
from noma_semcom_env.rendering.strokes import (
    ALARM,
    CARD,
    FAINT,
    INK,
    LINE,
    OTHERS,
    PAPER,
    SOFT,
    Colour,
    badge,
    badge_width,
    dashes,
    dot,
    pale,
    scaled,
    text_width,
    user_colour,
    write,
)
from noma_semcom_env.rendering.view import Sent, View, feature_texts, seconds, snr_db
from noma_semcom_env.zoo.presets import load_preset

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import Dynamics

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

WIDTH: Final = 980
HEIGHT: Final = 600
SHOWN_USERS: Final = 6
"""Users that have a row; more of them are seen in the cell alone."""

_MARGIN: Final = 12
_LEFT: Final = 336
_TOP: Final = 52
_FOOT: Final = 20
_FINE: Final = 2
"""Pixels of the cell a pixel of the frame: shapes are drawn larger and reduced, for smooth edges."""

_TURN: Final = np.linspace(0.0, 2.0 * np.pi, 181)
_DECADES: Final = 2
"""Decades of latency shown below tau_ref."""


class Painter:
    """Draws views of one dynamics' episodes; the same view gives the same pixels.

    Args:
        dynamics: Holds scenario, bank and, if it has them, the recovery's images and features.
        recoveries: Recovered images, or None to leave them out.
    """

    def __init__(self, dynamics: Dynamics, recoveries: Recoveries | None = None) -> None:
        self._dynamics = dynamics
        self._recoveries = recoveries
        self._images: np.ndarray | None = getattr(dynamics.recovery, "images", None)
        self._features: Any = getattr(dynamics.recovery, "features", None)
        self._palette = load_preset(dynamics.scenario.models).palette
        self._pictures: dict[Hashable, Image.Image] = {}
        users = dynamics.scenario.num_users
        self._rows = range(min(users, SHOWN_USERS))
        self._row_height = min((HEIGHT - _TOP - _FOOT - 4) // len(self._rows), 264)
        self._captioned = len(self._rows) <= 4
        room = self._row_height - (56 if self._captioned else 46)
        self._side = min(room, 192 if recoveries is None else 128)
        high = 48 + 15 * len(self._rows)
        self._map: Box = (_MARGIN, _TOP, _LEFT, _TOP + 300)
        self._bars: Box = (_MARGIN, _TOP + 308, _LEFT, _TOP + 308 + high)
        self._curve: Box = (_MARGIN, _TOP + 316 + high, _LEFT, HEIGHT - _MARGIN)

    def paint(self, view: View) -> np.ndarray:
        """(HEIGHT, WIDTH, 3) uint8."""
        frame = remember(self._pictures, "background", self._background).copy()
        draw = ImageDraw.Draw(frame)
        self._draw_head(draw, view)
        self._draw_cell(frame, view)
        self._draw_latency(draw, view)
        draw_rewards(draw, self._curve, view.rewards, view.step, self._dynamics.scenario.episode_length)
        snr = snr_db(view, self._dynamics)
        for user in self._rows:
            self._draw_user(frame, draw, view, user, float(snr[user]))
        return np.array(frame)

    def _background(self) -> Image.Image:
        """What no frame changes: cards, titles, axes and legends."""
        frame = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        draw = ImageDraw.Draw(frame)
        scenario = self._dynamics.scenario
        for box, title in (
            (self._map, f"cell of {scenario.max_distance_m:g} m, beams of {_count(scenario.num_antennas, 'antenna')}"),
            (self._bars, "latency of each user, logarithmic"),
            (self._curve, "reward of each step"),
        ):
            draw.rounded_rectangle(box, 8, CARD, LINE)
            write(draw, box[0] + 10, box[1] + 7, title, 12, SOFT)
        for user in self._rows:
            left, top, right, bottom = self._row(user)
            draw.rounded_rectangle((left, top, right, bottom), 8, CARD, LINE)
            draw.rounded_rectangle((left, top, left + 5, bottom), 2, user_colour(user))
        hidden = scenario.num_users - len(self._rows)
        more = f"{_count(hidden, 'more user')} in the cell alone.  " if hidden else ""
        legend = f"{more}Dark: sent.  Pale: not sent.  Struck out: not available.  Numbers: bits."
        write(draw, _LEFT + _MARGIN, HEIGHT - _FOOT - 1, legend, 12, SOFT)
        self._draw_axis(draw)
        return frame

    def _row(self, user: int) -> Box:
        top = _TOP + user * self._row_height
        return _LEFT + _MARGIN, top, WIDTH - _MARGIN, top + self._row_height - 8

    def _draw_head(self, draw: ImageDraw.ImageDraw, view: View) -> None:
        scenario, sent = self._dynamics.scenario, view.sent
        title = f"{_count(scenario.num_users, 'user')}, one band of {scenario.bandwidth_hz / 1e6:g} MHz"
        write(draw, _MARGIN + 2, 15, title, 18, INK, bold=True)
        figures = [("step", f"{view.step} / {scenario.episode_length}", INK)]
        if sent is not None:
            late = ALARM if sent.violated else INK
            figures += [
                ("latency", seconds(sent.latency_s), late),
                ("mean LPIPS", f"{sent.lpips.mean():.3f}", INK),
                ("reward", f"{view.rewards[-1]:.3f}", INK),
                ("return", f"{sum(view.rewards):.2f}", INK),
            ]
        for place, (name, value, ink) in enumerate(figures):
            x = _LEFT + _MARGIN + 6 + 124 * place
            write(draw, x, 7, name, 12, SOFT)
            write(draw, x, 22, value, 18, ink)

    def _draw_cell(self, frame: Image.Image, view: View) -> None:
        """Users at their distances, and the power pattern of the array towards each of them."""
        left, top, right, bottom = self._map
        width, height = right - left - 4, bottom - top - 30
        cell = Image.new("RGB", (width * _FINE, height * _FINE), CARD)
        draw = ImageDraw.Draw(cell, "RGBA")
        centre = np.array([width, height]) * _FINE / 2
        radius = (height / 2 - 12) * _FINE
        scenario, episode, sent = self._dynamics.scenario, view.episode, view.sent
        scale = radius / max(float(episode.distances_m.max()), scenario.max_distance_m)
        for metres in (scenario.min_distance_m, scenario.max_distance_m):
            draw.ellipse((*(centre - metres * scale), *(centre + metres * scale)), outline=LINE, width=_FINE)
        if sent is not None:
            for user, pattern in self._patterns(view, sent):
                points = centre + _plane(_TURN, 0.72 * radius * pattern)
                outline = [(float(x), float(y)) for x, y in points]
                draw.polygon(outline, fill=(*user_colour(user), 40))
                draw.line([*outline, outline[0]], fill=(*user_colour(user), 200), width=_FINE)
        array = min(scenario.num_antennas, 9)
        for antenna in range(array):
            dot(draw, centre + np.array([5.0 * _FINE * (antenna - (array - 1) / 2), 0.0]), 2 * _FINE, INK)
        spots = centre + _plane(episode.angles, episode.distances_m * scale)
        for user, spot in enumerate(spots):
            dot(draw, spot, 6 * _FINE, user_colour(user), CARD)
        frame.paste(cell.reduce(_FINE), (left + 2, top + 26))
        labels = ImageDraw.Draw(frame)
        for user, (x, y) in enumerate(spots / _FINE + np.array([left + 2, top + 26])):
            if user not in self._rows:
                break
            place = sent.places[user] if sent is not None else ""
            name = f"SU {user + 1}"
            extent = text_width(name, 12) + (badge_width(place) + 4 if place else 0)
            outwards = x - 9 - extent if x < (left + right) / 2 else x + 9
            inwards = 2 * x - outwards - extent
            x_text = outwards if left + 4 <= outwards <= right - 4 - extent else inwards
            x_text = write(labels, x_text, y - 7, name, 12, INK, bold=True)
            if place:
                badge(labels, x_text + 4, y - 8, place, user_colour(user))

    def _patterns(self, view: View, sent: Sent) -> Iterator[tuple[int, np.ndarray]]:
        """Users that have a row and something to send, with |w_k^H a(theta)|^2 / N over a turn, in [0, 1]."""
        antennas = sent.beams.shape[-1]
        response = steering_vector(_TURN, antennas, view.episode.spacing)
        gain = squared_magnitude(sent.beams.conj() @ response.T) / antennas
        return ((user, gain[user]) for user in self._rows if sent.demand_bits[user] > 0)

    def _draw_axis(self, draw: ImageDraw.ImageDraw) -> None:
        """The latency axis: decades, tau_ref and tau_max."""
        scenario = self._dynamics.scenario
        _, top, right, bottom = self._bars
        low, high = self._latency_x(0.0), self._latency_x(np.inf)
        for decade in range(-_DECADES, int(np.log10(max(scenario.latency_cap_s / scenario.reference_s, 1.0))) + 1):
            value = scenario.reference_s * 10.0**decade
            x = self._latency_x(value)
            draw.line((x, top + 26, x, bottom - 20), LINE)
            if decade < 0:
                label = seconds(value)
                write(draw, x - text_width(label, 11) / 2, bottom - 17, label, 11, SOFT)
        draw.line((low, bottom - 20, high, bottom - 20), LINE)
        for value, name, ink in (
            (scenario.reference_s, "ref", SOFT),
            (scenario.latency_cap_s, "max", ALARM),
        ):
            x = self._latency_x(value)
            dashes(draw, x, top + 26, bottom - 18, ink)
            label = f"{name} {seconds(value)}"
            extent = text_width(label, 11)
            write(draw, min(x - extent / 2, right - 8 - extent), bottom - 17, label, 11, ink)

    def _latency_x(self, value: float) -> float:
        """Pixel of a latency in s; all below the axis at its left end, all above at its right."""
        scenario = self._dynamics.scenario
        low, high = scenario.reference_s / 10.0**_DECADES, max(scenario.latency_cap_s, scenario.reference_s) * 1.4
        share = np.log(np.clip(value, low, high) / low) / np.log(high / low)
        return float(self._bars[0] + 50 + share * (self._bars[2] - self._bars[0] - 60))

    def _draw_latency(self, draw: ImageDraw.ImageDraw, view: View) -> None:
        left, top, _, bottom = self._bars
        low, sent = self._latency_x(0.0), view.sent
        for user in self._rows:
            y = top + 28 + 15 * user
            write(draw, left + 10, y - 2, f"SU {user + 1}", 12, INK if sent and sent.demand_bits[user] else FAINT)
            if sent is not None and sent.demand_bits[user] > 0:
                x = self._latency_x(float(sent.delay_s[user]))
                late = sent.delay_s[user] > self._dynamics.scenario.latency_cap_s
                draw.rounded_rectangle((low, y, max(x, low + 2), y + 9), 2, ALARM if late else user_colour(user))
        if sent is not None and sent.latency_s > 0:
            x = self._latency_x(sent.latency_s)
            draw.line((x, top + 25, x, bottom - 20), INK)

    def _draw_user(self, frame: Image.Image, draw: ImageDraw.ImageDraw, view: View, user: int, snr: float) -> None:
        """One row: what the user has, what it sent, and what arrived."""
        left, top, right, bottom = self._row(user)
        sent, image = view.sent, int(view.episode.image_index[user])
        x = write(draw, left + 16, top + 6, f"SU {user + 1}", 15, INK, bold=True) + 8
        if sent is not None and sent.places[user]:
            x = badge(draw, x, top + 7, sent.places[user], user_colour(user)) + 8
        write(draw, x, top + 8, f"{view.episode.distances_m[user]:.0f} m,  SNR {snr:.0f} dB", 13, SOFT)
        if sent is not None:
            write(draw, left + 232, top + 8, _delivery(sent, user), 13, INK)
            self._draw_lpips(draw, right - 154, top + 8, float(sent.lpips[user]))
        selection = np.zeros(self._dynamics.bank.width, dtype=bool) if sent is None else sent.selection[user]
        x = left + 16
        pictures = self._user_pictures(image, selection, sent is not None)
        for name, picture in pictures:
            if picture is None:
                draw.rectangle((x, top + 30, x + self._side - 1, top + 29 + self._side), PAPER, LINE)
            else:
                frame.paste(picture, (x, top + 30))
            if self._captioned:
                write(draw, x, top + 32 + self._side, name, 11, SOFT)
            x += self._side + 8
        self._draw_features(draw, (x + 4, top + 30, right - 8, bottom - 2), image, selection)

    def _user_pictures(self, image: int, selection: np.ndarray, sent: bool) -> list[tuple[str, Image.Image | None]]:
        """Captions and pictures of a row, as many as the recovery allows; None for one that is still to come."""
        cache, side = self._pictures, self._side
        found: list[tuple[str, Image.Image | None]] = []
        if self._images is not None:
            raw = self._images[image]
            found.append(("raw", remember(cache, ("raw", image), lambda: scaled(raw, side))))
        if self._features is not None:
            key = ("masks", image, selection.tobytes())
            found.append(("masks", remember(cache, key, lambda: self._mask_picture(image, selection))))
        if self._recoveries is not None:
            # Not cached at its size: the recoveries keep what takes long.
            arrived = scaled(self._recoveries.image(image, selection), side) if sent else None
            found.append(("recovered", arrived))
        return found

    def _mask_picture(self, image: int, selection: np.ndarray) -> Image.Image:
        """Masks in their colours, pale where not sent, white where there is none."""
        features = self._features[image]
        picture = np.full((*features.masks.shape[1:], 3), 255, dtype=np.uint8)
        for mask, label, sent in zip(features.masks, features.mask_labels, selection, strict=False):
            colour = self._class_colour(label)
            picture[mask] = colour if sent else pale(colour)
        return scaled(picture, self._side, Image.Resampling.NEAREST)

    def _class_colour(self, label: str) -> Colour:
        if label in self._palette:
            return self._palette[label]
        labels = self._dynamics.bank.labels
        return OTHERS[labels.index(label) % len(OTHERS)] if label in labels else OTHERS[0]

    def _draw_features(self, draw: ImageDraw.ImageDraw, box: Box, image: int, selection: np.ndarray) -> None:
        """Masks, each with its colour, and phrases, with their bits, line after line."""
        left, top, right, bottom = box
        x, y = float(left), top
        size_bits, available = self._dynamics.bank.size_bits[image], self._dynamics.available[image]
        for feature, name in enumerate(feature_texts(self._dynamics, image)):
            bits, sent = str(int(size_bits[feature])), bool(selection[feature])
            is_mask = not name.startswith('"')
            extent = 14 * is_mask + text_width(name, 12) + 4 + text_width(bits, 11)
            if x > left and x + extent > right:
                x, y = left, y + 18
            if y + 16 > bottom:
                write(draw, right - 12, y - 18, "...", 12, SOFT)
                return
            start, ink = x, INK if sent else FAINT
            if is_mask:
                colour = self._class_colour(name)
                draw.rectangle((x, y + 4, x + 9, y + 13), colour if sent else pale(colour))
                x += 14
            end = write(draw, x, y + 1, name, 12, ink)
            if not available[feature]:
                draw.line((start, y + 9, end, y + 9), FAINT)
            x = write(draw, end + 4, y + 2, bits, 11, SOFT if sent else FAINT) + 12

    def _draw_lpips(self, draw: ImageDraw.ImageDraw, x: float, y: float, lpips: float) -> None:
        end = write(draw, x, y, "LPIPS", 13, SOFT) + 6
        write(draw, end + 70, y, f"{lpips:.2f}", 13, INK)
        draw.rounded_rectangle((end, y + 4, end + 64, y + 12), 2, PAPER)
        filled = 64 * min(max(lpips, 0.0), 1.0)
        if filled >= 1:
            draw.rounded_rectangle((end, y + 4, end + filled, y + 12), 2, SOFT)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _delivery(sent: Sent, user: int) -> str:
    bits = sent.demand_bits[user]
    if bits == 0:
        return "sends nothing"
    if not np.isfinite(sent.delay_s[user]):
        return f"{bits:.0f} bit cannot be delivered"
    return f"{bits:.0f} bit in {seconds(sent.delay_s[user])}"


def _plane(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(n, 2) pixels from the centre: broadside points up, the array lies along x."""
    plane: np.ndarray = np.stack([np.sin(angles), -np.cos(angles)], axis=-1) * radii[:, None]
    return plane
