"""Recorded channels: trajectories from an array or a file, measured or made by another simulator."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.channel import path_gain
from noma_semcom_env.link.sic import ComplexArray, FloatArray

KEY: Final = "channel"
"""Name of the array in an ``.npz`` file that holds more than one."""


@dataclass(frozen=True, eq=False)
class TraceChannel:
    """Plays recorded trajectories: a random episode of the recording, from a random step on.

    Attributes:
        source: Path of an ``.npy`` or ``.npz`` file (in the latter the only array, or the one named ``"channel"``; no
            pickles), or an array, complex: (T, K, N), or (episodes, T, K, N). At least as many steps as an episode has,
            and one more; as many users and antennas as the scenario has.
        normalized: True where the recording is small-scale fading of mean power 1, to be scaled by the path gain of
            each user's distance; False where it holds the path gain already, and distances are without effect.
        path_loss_intercept_db: Path loss at 1 km in dB, for a normalized recording.
        path_loss_slope_db: dB a decade of distance, likewise.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds something else, or an entry is not finite.
    """

    source: str | PathLike[str] | ArrayLike
    normalized: bool = False
    path_loss_intercept_db: float = 128.1
    path_loss_slope_db: float = 37.6
    _traces: ComplexArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.source, str | PathLike):
            name = f"source={fspath(self.source)!r}"
            traces = _read(Path(self.source), name)
        else:
            name, traces = "source", np.asarray(self.source)
        if traces.ndim not in (3, 4) or 0 in traces.shape or traces.dtype.kind not in "iufc":
            raise ValueError(
                f"{name} holds shape {traces.shape} of {traces.dtype}; complex (T, K, N) or (episodes, T, K, N) is "
                "needed"
            )
        if not np.isfinite(traces).all():
            raise ValueError(f"{name} holds {traces[~np.isfinite(traces)][0]}; every entry must be finite")
        whole = traces.astype(np.complex128)
        object.__setattr__(self, "_traces", whole[None] if whole.ndim == 3 else whole)
        if not isinstance(self.source, str | PathLike):
            object.__setattr__(self, "source", f"array of shape {traces.shape}")  # one copy is enough

    def sample(self, rng: np.random.Generator, distances_m: FloatArray, num_antennas: int, steps: int) -> ComplexArray:
        """Draw a trajectory, see :meth:`~noma_semcom_env.link.channel.ChannelModel.sample`: 2 uniform variates.

        Raises:
            ValueError: if the recording has other users or antennas, or too few steps.
        """
        episodes, length, users, antennas = self._traces.shape
        if (users, antennas) != (len(distances_m), num_antennas) or length < steps:
            raise ValueError(
                f"the recording has {length} steps, {users} users and {antennas} antennas; at least {steps} steps "
                f"(episode_length + 1), num_users={len(distances_m)} and num_antennas={num_antennas} are needed"
            )
        episode, start = (rng.random(2) * (episodes, length - steps + 1)).astype(np.int64)
        played: ComplexArray = self._traces[episode, start : start + steps]
        if not self.normalized:
            return played.copy()
        gain = path_gain(distances_m, self.path_loss_intercept_db, self.path_loss_slope_db)
        return np.sqrt(gain)[:, None] * played


def _read(path: Path, name: str) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            key = loaded.files[0] if len(loaded.files) == 1 else KEY
            if key not in loaded.files:
                raise ValueError(f"its arrays are {sorted(loaded.files)}; one alone, or one named {KEY!r} is needed")
            array: np.ndarray = loaded[key]
            return array
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is no recording of channels: {error}") from error
