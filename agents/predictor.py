"""A network over sets that predicts LPIPS: with the oracle's search behind it, the best agent that we could build.

It learns from every tabulated image, by plain regression, what policies learn from rewards. Codes of features
(what each is, its bits, its importance) are summed over what is sent and over what is withheld; then every feature is
looked at once more in the light of both sums, and summed again. Sums make it blind to the order of features and let any
number of them be. Several networks that differ in their seed alone are averaged. Each image's mean over its subsets is
taken off, since no choice depends on it, and good recoveries weigh more than bad ones, since it is among them that a
search chooses.

    python -m noma_semcom_agents.predictor --images street-policy --output runs/set-network

One that was so trained is in the package (:meth:`SetQuality.bundled`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from noma_semcom_agents.evaluation import Knobs
from noma_semcom_agents.provenance import jsonable
from noma_semcom_agents.quality import TabulatedImages, Trial, relabelled
from noma_semcom_env.features import TEXTUAL, FeatureBank
from noma_semcom_env.recovery.subsets import subset_selections

FILE: Final = "set_network.safetensors"
BUNDLED: Final = Path(__file__).parent / "weights" / FILE
"""Trained by the command above; what it came to is in the ``card.json`` beside it."""

_IMAGES_AT_ONCE: Final = 16
_TYPICAL_COUNT: Final = 4.0


@dataclass(frozen=True)
class SetNetworkSettings:
    """How set networks are built and trained.

    Attributes:
        members: Networks that are averaged.
        width: Of the hidden layers.
        label_width: Of a label's embedding.
        epochs: Times that every image is seen.
        subsets: Subsets of an image that are drawn each time it is seen.
        lr: Highest learning rate, of one cycle.
        weight_decay: Of AdamW.
        emphasis: A subset of LPIPS L weighs exp(-emphasis L).
        jitter: Standard deviation of noise on sizes and importance while training, in the units of :func:`tensors_of`,
            so that no image is told by them exactly.
        seed: Of the first network; the others follow.
    """

    members: int = 4
    width: int = 64
    label_width: int = 16
    epochs: int = 60
    subsets: int = 128
    lr: float = 3e-3
    weight_decay: float = 1e-2
    emphasis: float = 3.0
    jitter: float = 0.05
    seed: int = 0


class SetNetwork(nn.Module):
    """LPIPS of subsets of an image's features, up to a constant an image.

    Args:
        vocabulary: Number of labels.
        width: Of the hidden layers.
        label_width: Of a label's embedding.
    """

    def __init__(self, vocabulary: int, width: int, label_width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(2 * vocabulary, label_width)
        self.of_feature = nn.Sequential(nn.Linear(label_width + 3, width), nn.SiLU(), nn.Linear(width, width))
        self.sent = nn.Parameter(torch.randn(2, width))
        self.of_first = nn.Linear(2 * width, width)
        self.own = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width)
        self.of_second = nn.Linear(2 * width, width)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, place: Tensor, sizes: Tensor, exists: Tensor, selected: Tensor) -> Tensor:
        """Predict.

        Args:
            place: (I, F) int64, label of each feature, raised by the vocabulary for phrases.
            sizes: (I, F, 3), see :func:`tensors_of`.
            exists: (I, F), 1 where the image has a feature.
            selected: (S, F) subsets of every image, or (I, S, F) subsets of each.

        Returns:
            (I, S).
        """
        code = self.of_feature(torch.cat([self.embedding(place), sizes], -1))
        if selected.dim() == 2:
            selected = selected.expand(len(code), *selected.shape)
        sent = selected * exists[:, None]
        withheld = exists[:, None] - sent
        kept, given = functional.silu(code), functional.silu(code + self.sent[0])
        first = self.of_first(torch.cat([withheld @ kept, sent @ given], -1) / _TYPICAL_COUNT)
        again = self.own(code)[:, None] + functional.silu(first)[:, :, None] * self.gate(code)[:, None]
        again = functional.silu(again + first[:, :, None] + sent[..., None] * self.sent[1])
        sums = [torch.einsum("isf,isfw->isw", which, again) for which in (withheld, sent)]
        second = self.of_second(torch.cat(sums, -1) / _TYPICAL_COUNT)
        result: Tensor = self.head(second + first).squeeze(-1)
        return result


def tensors_of(bank: FeatureBank) -> tuple[Tensor, Tensor, Tensor]:
    """What :class:`SetNetwork` reads of I images: label and kind (I, F), sizes (I, F, 3), and which features exist.

    The sizes are bits on a logarithmic and on a linear scale, and importance.
    """
    place = bank.label + len(bank.labels) * (bank.modality == TEXTUAL)
    sizes = np.stack([np.log1p(bank.size_bits) / 5.0, bank.size_bits / 300.0, bank.importance], axis=-1)
    return torch.as_tensor(place), torch.as_tensor(sizes).float(), torch.as_tensor(bank.exists).float()


class SetQuality:
    """Averaged set networks as a model of LPIPS; each image's mean is missing from its predictions.

    Args:
        labels: The label vocabulary.
        networks: At least one.
        record: What they were trained on and how: ``settings``, the ``images`` by number, their ``image_set`` and kind
            of ``importance``, and the SHA-256 of their LPIPS.
    """

    def __init__(self, labels: tuple[str, ...], networks: list[SetNetwork], record: Mapping[str, Any]) -> None:
        self.labels = labels
        self.networks = networks
        self.record = dict(record)

    def predict(self, bank: FeatureBank) -> np.ndarray:
        """See :meth:`~noma_semcom_agents.quality.QualityModel.predict`."""
        bank = relabelled(bank, self.labels)
        members = subset_selections(bank.width, bank.width)
        selected, inputs = torch.as_tensor(members).float(), tensors_of(bank)
        parts = []
        with torch.no_grad():
            for start in range(0, len(bank), _IMAGES_AT_ONCE):
                some = [one[start : start + _IMAGES_AT_ONCE] for one in inputs]
                parts.append(torch.stack([network(*some, selected) for network in self.networks]).mean(0))
        predicted: np.ndarray = torch.cat(parts).double().numpy()
        predicted[(~bank.exists) @ members.T] = np.nan
        return predicted

    def was_trained_on(self, images: TabulatedImages) -> bool:
        """Whether exactly these images, with this LPIPS, were learned from."""
        return self.labels == images.bank.labels and self.record["lpips_sha256"] == _digest(images.lpips)

    def check(self, images: TabulatedImages) -> None:
        """Refuse images whose features cannot be read, though arrays would fit.

        Raises:
            ValueError: If they have other labels, or importance of another kind.
        """
        trained = f"these set networks were trained on {self.record['image_set']!r}"
        remedy = "train others with python -m noma_semcom_agents.predictor"
        if images.bank.labels != self.labels:
            raise ValueError(
                f"{trained}, and images {images.scenario.images!r} have other labels; {remedy} --images IMAGES"
            )
        importance = jsonable(images.scenario.importance)
        if importance != self.record["importance"]:
            raise ValueError(
                f"{trained} with importance={self.record['importance']!r}, not {importance!r}; leave "
                f"importance as it was, or {remedy}"
            )

    def save(self, path: Path) -> None:
        """Write one ``.safetensors`` with everything, by a temporary file that is renamed."""
        from safetensors.torch import save_file

        tensors = {
            f"{i}.{name}": value for i, one in enumerate(self.networks) for name, value in one.state_dict().items()
        }
        metadata = {"labels": json.dumps(self.labels), "record": json.dumps(self.record)}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        save_file(tensors, part, metadata)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> SetQuality:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no file of set networks.
        """
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError as error:
            raise ImportError("the set network needs safetensors: pip install 'noma-semcom-env[references]'") from error

        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; train one with python -m noma_semcom_agents.predictor")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read ({error}); train it again") from error
        if "record" not in metadata:
            raise ValueError(f"{path} holds no set networks: it has no record of their training")
        labels, record = tuple(json.loads(metadata["labels"])), json.loads(metadata["record"])
        networks = []
        for i in range(record["settings"]["members"]):
            network = _network(labels, SetNetworkSettings(**record["settings"]))
            network.load_state_dict({n.partition(".")[2]: v for n, v in tensors.items() if n.startswith(f"{i}.")})
            networks.append(network.eval())
        return cls(labels, networks, record)

    @classmethod
    def bundled(cls) -> SetQuality:
        """The one in the package, trained on ``street-policy``; no other model that we could build is as good."""
        return cls.load(BUNDLED)


def train_set_quality(
    images: TabulatedImages,
    settings: SetNetworkSettings | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> SetQuality:
    """Train set networks; equal settings and images give equal networks.

    Args:
        images: What to learn from.
        settings: The defaults if None.
        folder: Each network is kept here when it is done, so that an interrupted training is taken up again; None keeps
            nothing.
        progress: Whether to draw a progress bar.
    """
    from rich.progress import Progress

    settings = settings or SetNetworkSettings()
    record = {
        "settings": asdict(settings),
        "images": len(images),
        "image_set": images.scenario.images,
        "importance": jsonable(images.scenario.importance),
        "lpips_sha256": _digest(images.lpips),
    }
    networks = []
    with Progress(disable=not progress) as bar:
        task = bar.add_task("set networks", total=settings.members * settings.epochs)
        for member in range(settings.members):
            one = SetNetworkSettings(**{**asdict(settings), "members": 1, "seed": settings.seed + member})
            part = {**record, "settings": asdict(one)}
            file = None if folder is None else folder / f"member-{member}.safetensors"
            kept = SetQuality.load(file) if file is not None and file.is_file() else None
            if kept is None or kept.record != part:
                network = _train_one(images, one, lambda: bar.advance(task))
                kept = SetQuality(images.bank.labels, [network], part)
                if file is not None:
                    kept.save(file)
            bar.update(task, completed=(member + 1) * settings.epochs)
            networks += kept.networks
    return SetQuality(images.bank.labels, networks, record)


def _network(labels: tuple[str, ...], settings: SetNetworkSettings) -> SetNetwork:
    return SetNetwork(len(labels), settings.width, settings.label_width)


def _train_one(images: TabulatedImages, settings: SetNetworkSettings, advance: Any) -> SetNetwork:
    # The initial weights follow from the seed, without a trace in the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _network(images.bank.labels, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    width = images.bank.width
    everything = torch.as_tensor(subset_selections(width, width)).float()
    place, sizes, exists = tensors_of(images.bank)
    lpips = torch.as_tensor(np.nan_to_num(images.lpips)).float()
    possible = torch.as_tensor(np.isfinite(images.lpips)).float()
    updates = settings.epochs * -(-len(images) // _IMAGES_AT_ONCE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=updates, pct_start=0.1)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(images), generator=generator).split(_IMAGES_AT_ONCE):
            numbers = torch.multinomial(possible[rows], settings.subsets, replacement=True, generator=generator)
            target = lpips[rows].gather(1, numbers)
            blurred = sizes[rows] + settings.jitter * torch.randn(sizes[rows].shape, generator=generator)
            error = network(place[rows], blurred, exists[rows], everything[numbers]) - target
            error = error - error.mean(1, keepdim=True)
            loss = (error.square() * torch.exp(-settings.emphasis * target)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        advance()
    return network.eval()


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def train_and_try(
    knobs: Knobs, validation: Knobs, output: Path, settings: SetNetworkSettings | None = None, progress: bool = True
) -> tuple[SetQuality, float]:
    """Train on the images of one environment, leave the model in a folder, and try it on those of another.

    Args:
        knobs: Keywords of the training environment.
        validation: Keywords of the other.
        output: Folder for the model and for what an interrupted training takes up again.
        settings: Of the networks.
        progress: Whether to draw a progress bar.

    Returns:
        The model, and the regret of a search that believes it.
    """
    model = train_set_quality(TabulatedImages.of(knobs), settings, output, progress)
    model.save(output / FILE)
    trial = Trial(validation)
    return model, trial.regret(model.predict(trial.images.bank))


def main() -> None:
    """Train on one image set, and try on another."""
    from noma_semcom_agents.report import make_console

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-policy")
    parser.add_argument("--validation", default="street-validation")
    parser.add_argument("--output", type=Path, default=Path("runs/set-network"))
    defaults = asdict(SetNetworkSettings())
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    settings = SetNetworkSettings(**{name: arguments[name] for name in defaults})
    images, validation = ({"images": arguments[name]} for name in ("images", "validation"))
    _, regret = train_and_try(images, validation, arguments["output"], settings)
    make_console().print(f"regret on {arguments['validation']}: {regret:.1%}; {arguments['output'] / FILE}")


if __name__ == "__main__":
    main()
