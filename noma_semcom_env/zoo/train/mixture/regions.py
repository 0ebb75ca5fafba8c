"""Regions of interest that image codecs are trained on and judged by, wholly on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch

from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.zoo.train.data import Scenes
from noma_semcom_env.zoo.train.mixture.annotated import LEAST_SHARE, Annotated

REGION_CLASSES: Final = tuple(CLASSES.index(kind) for kind in ATTRIBUTES if kind != "mountain")
"""Classes of a street scene of which an object can be a region of interest."""

LEAST_REGION: Final = 128 * 128 // LEAST_SHARE
"""Pixels of the smallest region of a street scene of 128 x 128."""


class RegionData(ABC):
    """Pictures with regions of interest; its length is the number of indices that can be taken.

    Attributes:
        unit: What is counted by it.
    """

    unit: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures, (B, 3, H, W) float in [0, 1], and a region of each, (B, H, W) bool, of a (B,) index."""

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random pictures and a random region of each, half of them flipped.

        Returns:
            (size, 3, H, W) float in [0, 1] and (size, H, W) bool.
        """
        device = generator.device
        index = torch.randint(len(self), (size,), generator=generator, device=device)
        image, region = self.take(index, generator)
        flipped = torch.rand(size, generator=generator, device=device) < 0.5
        image = torch.where(flipped[:, None, None, None], image.flip(3), image)
        return image, torch.where(flipped[:, None, None], region.flip(2), region)


@dataclass(frozen=True)
class Regions(RegionData):
    """Street scenes, by scene; a region is any object of a scene.

    Attributes:
        images: (n, H, W, 3) uint8.
        labels: (n, H, W) uint8.
        classes: (c,) uint8, :data:`REGION_CLASSES`.
        valid: (n, c) bool: whether an object of the class is there and large enough; at least one of each scene.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: torch.Tensor
    valid: torch.Tensor
    unit: ClassVar[str] = "scenes"

    @classmethod
    def on(cls, device: str, data: Scenes, least: int = LEAST_REGION) -> Regions:
        """Those of the scenes that have a region of at least so many pixels."""
        labels = torch.from_numpy(np.array(data.labels)).to(device)
        classes = torch.tensor(REGION_CLASSES, dtype=torch.uint8, device=device)
        areas = torch.stack([(labels == one).sum((1, 2)) for one in classes], dim=1)
        valid = areas >= least
        chosen = valid.any(1)
        images = torch.from_numpy(np.array(data.images)).to(device)
        if not bool(chosen.all()):
            images, labels, valid = images[chosen], labels[chosen], valid[chosen]
        return cls(images, labels, classes, valid)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The scenes of an index and a random region of each."""
        valid = self.valid[index]
        lots = torch.rand(valid.shape, generator=generator, device=generator.device)
        chosen = self.classes[torch.where(valid, lots, -1).argmax(1)]
        image = self.images[index].permute(0, 3, 1, 2).float() / 255
        return image, self.labels[index] == chosen[:, None, None]


@dataclass(frozen=True)
class Objects(RegionData):
    """Annotated photographs, by object.

    Attributes:
        images: (n, H, H, 3) uint8.
        masks: (m, H, ceil(H / 8)) uint8, see :class:`~noma_semcom_env.zoo.train.mixture.annotated.Annotated`.
        picture: (m,) int64, the picture of each object.
    """

    images: torch.Tensor
    masks: torch.Tensor
    picture: torch.Tensor
    unit: ClassVar[str] = "objects"

    @classmethod
    def on(cls, device: str, data: Annotated) -> Objects:
        """All of them."""
        return cls(*(torch.from_numpy(np.array(part)).to(device) for part in (data.images, data.masks, data.picture)))

    def __len__(self) -> int:
        return len(self.picture)

    def take(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The objects of an index and their pictures; nothing is drawn."""
        image = self.images[self.picture[index]].permute(0, 3, 1, 2).float() / 255
        bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.masks.device)
        region = (self.masks[index][..., None] >> bits & 1).flatten(2)
        return image, region[..., : image.shape[3]].bool()
