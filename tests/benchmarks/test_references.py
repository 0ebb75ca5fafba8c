"""Where the leaderboard takes the set network from, and that its references are those of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noma_semcom_agents import predictor
from noma_semcom_agents.predictor import FILE, SetNetworkSettings, SetQuality, train_set_quality
from noma_semcom_agents.quality import TabulatedImages
from noma_semcom_benchmarks.references import References

SMALL = SetNetworkSettings(members=1, epochs=1, width=8, label_width=2, subsets=4)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Folders of trainings, which are small."""
    folders: list[Path | None] = []
    real = train_set_quality

    def train(images: TabulatedImages, settings: Any, folder: Path | None = None, progress: bool = False) -> SetQuality:
        folders.append(folder)
        return real(images, SMALL)

    monkeypatch.setattr(predictor, "train_set_quality", train)
    return folders


def test_the_set_network_is_the_bundled_one_unless_told_otherwise(tmp_path: Path, trained: list[Path | None]) -> None:
    bundled, seconds = References().set_network
    assert len(bundled.networks) == 4
    assert seconds > 0.0
    assert trained == []
    own = References(folder=tmp_path)
    assert len(own.set_network[0].networks) == 1
    assert own.set_network[1] >= 0.0
    assert trained == [tmp_path]
    assert (tmp_path / FILE).is_file()
    assert References(folder=tmp_path).set_network[1] == 0.0  # taken from there
    assert trained == [tmp_path]
    References(folder=tmp_path, retrain=True).set_network  # noqa: B018  (a property that trains)
    assert trained == [tmp_path, tmp_path]


def test_a_set_network_of_other_images_is_refused(tmp_path: Path) -> None:
    train_set_quality(TabulatedImages.of({"images": "street-validation"}), SMALL).save(tmp_path / FILE)
    with pytest.raises(ValueError, match=r"in .* was trained on other images than 'street-policy' .* --retrain"):
        References(folder=tmp_path).set_network  # noqa: B018  (a property that loads)


@pytest.mark.slow
def test_every_reference_acts_on_all_features() -> None:
    entries = References(quick=True).of({"num_users": 2})
    assert [entry.name for entry in entries] == [
        "ALL-Selection",
        "Random-Selection",
        "No-Selection",
        "Greedy by importance per bit",
        "Greedy by importance per bit, fitted importance",
        "LinUCB",
        "Fitted predictor",
        "Set network",
    ]
    assert all(one.knobs["prune"] is False for entry in entries for one in entry.contenders.values())
