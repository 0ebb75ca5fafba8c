"""What the figures of Mixture of Semantics are measured on: one object of each street scene, asked for by name.

Everything here is 128 x 128. The range of CBR is rescaled to 0.02 to 0.12, since text and mask would not fit into the
paper's 0.01 to 0.05 of so small an image; and CLIP-RONI is measured with the bundled small CLIP, whose scale is not
that of OpenAI's CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from noma_semcom_env.mixture_models import load_transceiver
from noma_semcom_env.scenes.street import SPLITS, StreetScene, render

SIDE: Final = 128
SAMPLES: Final = 3 * SIDE * SIDE
"""Real source samples 3HW of an image."""

CBRS: Final = (0.032, 0.048, 0.064, 0.08, 0.096)
SNRS_DB: Final = (0.0, 5.0, 10.0, 15.0, 20.0)
CBR: Final = 0.064
"""The middle of the range, as 0.03 is of the paper's."""

CHANNELS: Final = ("awgn", "rayleigh")
SETTING: Final = (
    "street scenes of 128 x 128; CBR rescaled from the paper's 0.01-0.05 to 0.02-0.12; a small CLIP, whose scale is "
    "not OpenAI CLIP's"
)

# Mountains are as good as ground; the codec for regions was not trained on them either.
_NO_REGION: Final = ("mountain",)
_GOLDEN: Final = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Asked:
    """One scene, and what its sender makes of the request for one object.

    Attributes:
        number: Place of the scene in its split; seeds noise and fade.
        scene: The scene.
        kind: Class of the object.
        prepared: Region, caption and mask of a batch of this scene alone. PSNR-ROI counts the region that SAM gives.
    """

    number: int
    scene: StreetScene
    kind: str
    prepared: Any

    @property
    def name(self) -> str:
        """Seed, style and object."""
        return f"{self.scene.seed}:{self.scene.style}:{self.kind}"

    @property
    def region(self) -> np.ndarray:
        """(H, W) bool."""
        return np.asarray(self.prepared.regions[0])

    @property
    def tokens(self) -> int:
        """Tokens of the caption, its end token included."""
        return int(self.prepared.tokens[0])

    @property
    def fade(self) -> complex:
        """The block fade of Rayleigh's law that all schemes meet in this scene.

        The fades of a split's first n scenes lie evenly among the quantiles (a golden-ratio sequence), so that few
        scenes tell as much as many independent fades would.
        """
        quantile = (0.5 + self.number * _GOLDEN) % 1.0
        return complex(np.sqrt(-np.log1p(-quantile)))


def ask(split: str, count: int, style: str = "plain") -> list[Asked]:
    """The first scenes of a split that hold an object, and the first object of each in the order of the caption.

    Args:
        split: One of :data:`~noma_semcom_env.scenes.street.SPLITS`.
        count: Number of scenes.
        style: Of the scenes.
    """
    found: list[Asked] = []
    for number in range(len(SPLITS[split])):
        if len(found) == count:
            break
        one = _ask(split, number, style)
        if one is not None:
            found.append(one)
    return found


@lru_cache(maxsize=512)
def _ask(split: str, number: int, style: str) -> Asked | None:
    from noma_semcom_env.mixture.regions import RegionError

    scene = render(SPLITS[split][number], SIDE, style)
    places = [i for i, item in enumerate(scene.items) if item.kind not in _NO_REGION]
    if not places:
        return None
    place = places[0]
    known = list(zip(scene.expressions, scene.boxes.tolist(), strict=True))
    kind = scene.items[place].kind
    try:
        prepared = load_transceiver().prepare(
            scene.image[None], [scene.expressions[place]], kinds=[kind], named=[known]
        )
    except RegionError:
        return None
    return Asked(number, scene, kind, prepared)
