"""Recorded channels: what is played, what is drawn, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.channel import path_gain
from noma_semcom_env.link.traces import TraceChannel

DISTANCES = np.array([60.0, 120.0, 190.0])


def recording(episodes: int | None = None) -> np.ndarray:
    """Every entry tells its episode (hundreds), step, user (tenths) and antenna (hundredths)."""
    shape = (episodes or 1, 12, 3, 2)
    one = sum(np.indices(shape) * np.array([100, 1, 0.1, 0.01]).reshape(4, 1, 1, 1, 1)) * (1 + 1j)
    return one if episodes else one[0]


def test_windows_are_played_as_recorded_and_all_of_them() -> None:
    model, rng = TraceChannel(recording(4)), np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        played = model.sample(rng, DISTANCES, 2, 10)
        assert played.shape == (10, 3, 2)
        first = int(played[0, 0, 0].real)
        np.testing.assert_array_equal(played, recording(4)[first // 100, first % 100 : first % 100 + 10])
        seen.add(first)
    assert seen == {100 * episode + start for episode in range(4) for start in range(3)}


@pytest.mark.parametrize("steps", [1, 12])
def test_draws_are_two_uniforms_whatever_is_asked(steps: int) -> None:
    rng, other = np.random.default_rng(1), np.random.default_rng(1)
    TraceChannel(recording()).sample(rng, DISTANCES, 2, steps)
    other.random(2)
    assert rng.bit_generator.state == other.bit_generator.state


def test_files_play_like_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", recording())
    np.savez(tmp_path / "alone.npz", anything=recording())
    np.savez(tmp_path / "named.npz", channel=recording(), time=np.arange(12))
    expected = TraceChannel(recording()).sample(np.random.default_rng(2), DISTANCES, 2, 5)
    for name in ("one.npy", "alone.npz", "named.npz"):
        for path in (tmp_path / name, str(tmp_path / name)):
            model = pickle.loads(pickle.dumps(TraceChannel(path)))  # noqa: S301
            np.testing.assert_array_equal(model.sample(np.random.default_rng(2), DISTANCES, 2, 5), expected)


def test_normalized_recordings_take_the_path_gain() -> None:
    plain, scaled = (
        TraceChannel(recording(), normalized=normalized).sample(np.random.default_rng(3), DISTANCES, 2, 5)
        for normalized in (False, True)
    )
    np.testing.assert_allclose(scaled, np.sqrt(path_gain(DISTANCES))[:, None] * plain, rtol=1e-14)


def test_what_is_played_may_be_written_to() -> None:
    model = TraceChannel(recording())
    model.sample(np.random.default_rng(4), DISTANCES, 2, 12)[:] = 0.0
    assert model.sample(np.random.default_rng(4), DISTANCES, 2, 12).any()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.ones((3, 2)), r"source holds shape \(3, 2\)"),
        (np.ones((0, 3, 2)), r"source holds shape \(0, 3, 2\)"),
        (np.array([[["a"]]]), "complex .* is needed"),
        (np.full((3, 2, 1), np.nan), "source holds nan; every entry must be finite"),
    ],
)
def test_other_arrays_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TraceChannel(source)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TraceChannel(tmp_path / "none.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=recording(), b=recording())
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npy").touch()
    for name in ("pickled.npy", "two.npz", "text.npz", "empty.npy"):
        with pytest.raises(ValueError, match=rf"source='.*{name}' is no recording of channels"):
            TraceChannel(tmp_path / name)


def test_recordings_that_do_not_fit_are_refused() -> None:
    model, rng = TraceChannel(recording()), np.random.default_rng(5)
    message = "has 12 steps, 3 users and 2 antennas; at least {} steps .*, num_users={} and num_antennas={} are needed"
    for distances, antennas, steps in ((DISTANCES, 2, 13), (DISTANCES, 4, 5), (DISTANCES[:2], 2, 5)):
        with pytest.raises(ValueError, match=message.format(steps, len(distances), antennas)):
            model.sample(rng, distances, antennas, steps)
