"""What an agent does: actions decoded into a selection and, in the model-free form, into beams and a decoding order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from noma_semcom_env.scenario import Scenario

MODEL_FREE: Final = "model_free"
"""The ``transmission`` of a scenario in which the agent gives beams and order itself."""

_SMALLEST: Final = float(np.finfo(np.float32).tiny)


class Control(NamedTuple):
    """How the agent of the model-free form transmits.

    Attributes:
        beams: (..., K, N) complex128, receive beams of any norm; a beam of zero receives nothing.
        order: (..., K) int64, user indices, first decoded first.
    """

    beams: np.ndarray
    order: np.ndarray

    def at(self, index: Any) -> Control:
        """Both parts indexed alike: ``None`` adds a leading axis, (n,) int takes rows."""
        return Control(self.beams[index], self.order[index])


class ActionForm(Protocol):
    """A space of actions and what they mean.

    Attributes:
        space: Of one environment.
    """

    space: spaces.Space[Any]

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, Control | None]:
        """What an action asks for.

        Args:
            action: An element of ``space``, or a batch of them.
            leading: Shape that the leading axes must have.

        Returns:
            (..., K, F) bool, the features to send, and the beams and order if the form has them.

        Raises:
            TypeError: If the action is of the wrong type.
            ValueError: If a shape or an entry is wrong.
        """
        ...


class SelectionForm:
    """``MultiBinary(K * F)``, user by user: the features that each user sends."""

    def __init__(self, users: int, width: int) -> None:
        self.space: spaces.Space[Any] = spaces.MultiBinary(users * width)
        self._shape = (users, width)

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, Control | None]:
        """See :class:`ActionForm`; entries are 0 and 1, bool, whole or real numbers."""
        return decode_selection("action", action, leading, self._shape), None


class ModelFreeForm:
    """A ``Dict``: ``selection`` as in :class:`SelectionForm`, ``beams`` and ``priorities``.

    ``beams``, Box (K * 2N), are user by user N real parts, then N imaginary parts of w_k; every norm means the same,
    but a beam of zero receives nothing (entries too small for a float32 are zero). ``priorities``, Box (K): the user of
    the highest is decoded first, of equal ones that of the lower index. Both boxes are [-1, 1]; numbers beyond are
    clipped to it.
    """

    def __init__(self, users: int, width: int, antennas: int) -> None:
        self.space: spaces.Space[Any] = spaces.Dict(
            {
                "selection": spaces.MultiBinary(users * width),
                "beams": spaces.Box(-1.0, 1.0, (users * 2 * antennas,), np.float32),
                "priorities": spaces.Box(-1.0, 1.0, (users,), np.float32),
            }
        )
        self._users, self._width, self._antennas = users, width, antennas

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, Control | None]:
        """See :class:`ActionForm`."""
        names = ("selection", "beams", "priorities")
        if not isinstance(action, Mapping):
            raise TypeError(f"action is a {type(action).__name__}; a dict of {', '.join(names)} is needed")
        for name in (*names, *action):
            if name not in action or name not in names:
                raise ValueError(f"action holds {sorted(map(str, action))}; {', '.join(names)} are needed, no others")
        users, antennas = self._users, self._antennas
        wanted = decode_selection("action['selection']", action["selection"], leading, (users, self._width))
        parts = _decode_box("action['beams']", action["beams"], leading, users * 2 * antennas)
        parts[np.abs(parts) < _SMALLEST] = 0.0
        real, imaginary = np.moveaxis(parts.reshape(*leading, users, 2, antennas), -2, 0)
        priorities = _decode_box("action['priorities']", action["priorities"], leading, users)
        return wanted, Control(real + 1j * imaginary, np.argsort(-priorities, axis=-1, kind="stable"))


def action_form(scenario: Scenario, width: int) -> ActionForm:
    """The form that a scenario asks for, for images of at most ``width`` features."""
    if scenario.transmission == MODEL_FREE:
        return ModelFreeForm(scenario.num_users, width, scenario.num_antennas)
    return SelectionForm(scenario.num_users, width)


def decode_selection(name: str, bits: Any, leading: tuple[int, ...], shape: tuple[int, int]) -> np.ndarray:
    """(..., K, F) bool of (..., K * F) zeros and ones.

    Args:
        name: What errors call it.
        bits: bool, whole or real numbers.
        leading: Shape that the leading axes must have.
        shape: K and F.

    Raises:
        TypeError: If the entries are no numbers.
        ValueError: If the shape is wrong, or an entry is neither 0 nor 1.
    """
    users, width = shape
    bits = _numbers(name, bits, (*leading, users * width), f"num_users={users} times {width} features, user by user")
    wanted = bits == 1
    if np.count_nonzero(wanted) != np.count_nonzero(bits):
        where = tuple(int(i) for i in np.argwhere((bits != 0) & ~wanted)[0])
        raise ValueError(f"{name}{list(where)}={bits[where]!r} is not allowed; every entry must be 0 or 1")
    selection: np.ndarray = wanted.reshape(*leading, users, width)
    return selection


def _decode_box(name: str, values: Any, leading: tuple[int, ...], length: int) -> np.ndarray:
    """(..., length) float64 in [-1, 1], clipped."""
    numbers = _numbers(name, values, (*leading, length), "finite numbers in [-1, 1]").astype(np.float64)
    if not np.isfinite(numbers).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
        raise ValueError(f"{name}{list(where)}={numbers[where]!r} is not allowed; every entry must be finite")
    return np.clip(numbers, -1.0, 1.0)


def _numbers(name: str, values: Any, shape: tuple[int, ...], meaning: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no array ({error}); {shape} is needed: {meaning}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has entries of type {array.dtype}; numbers are needed: {meaning}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; {shape} is needed: {meaning}")
    return array
