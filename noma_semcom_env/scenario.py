"""Scenario: every knob of an environment in one frozen, validated dataclass."""

from __future__ import annotations

import difflib
import json
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from os import PathLike, fspath
from typing import Any, Final, NamedTuple

import numpy as np

FADINGS: Final = ("rayleigh", "rician")
TRANSMISSIONS: Final = ("optimal", "exhaustive", "paper", "distance", "strength", "model_free")
MAX_EXHAUSTIVE_USERS: Final = 8
ACCESSES: Final = ("noma", "tdma", "fdma")
BLOCKLENGTHS: Final = ("normal",)
RECOVERIES: Final = ("table", "live")
LPIPS_NETS: Final = ("alex", "vgg")
REWARDS: Final = ("weighted_sum", "worst_user")
OBSERVATIONS: Final = ("features", "paper")
IMPORTANCES: Final = ("paper", "fitted")


class _Range(NamedTuple):
    """Allowed values of one number, with the words that an error says about it."""

    low: float
    high: float
    unit: str = ""

    def admits(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]{self.unit and ' ' + self.unit}"


_WHOLE: Final = {
    "num_users": _Range(1, 64),
    "num_antennas": _Range(1, 1024),
    "episode_length": _Range(1, 1_000_000),
    "backlog_deadline_steps": _Range(1, 64),
}
_REAL: Final = {
    "transmit_power_dbm": _Range(-100, 100, "dBm"),
    "bandwidth_hz": _Range(1e-3, 1e12, "Hz"),
    "noise_psd_dbm_hz": _Range(-300, 0, "dBm/Hz"),
    "noise_figure_db": _Range(0, 100, "dB"),
    "min_distance_m": _Range(1e-3, 1e6, "m"),
    "max_distance_m": _Range(1e-3, 1e6, "m"),
    "distances_m": _Range(1e-3, 1e6, "m"),
    "path_loss_intercept_db": _Range(-300, 300, "dB"),
    "path_loss_slope_db": _Range(0, 200, "dB a decade"),
    "rician_factor_db": _Range(-100, 100, "dB"),
    "doppler_hz": _Range(0, 1e6, "Hz"),
    "step_period_s": _Range(1e-12, 1e6, "s"),
    "antenna_spacing_wavelengths": _Range(1e-6, 1e3, "wavelengths"),
    "error_probability": _Range(1e-12, 0.5),
    "csi_error": _Range(0, 1),
    "sic_residual": _Range(0, 1),
    "text_threshold": _Range(0, 1),
    "visual_threshold": _Range(0, 1),
    "lpips_weight": _Range(0, 1),
    "latency_ref_s": _Range(1e-12, 1e6, "s"),
    "max_latency_s": _Range(1e-12, 1e9, "s"),
    "violation_penalty": _Range(0, 1e6),
}
_NAMES: Final = {
    "fading": (FADINGS, ("sample",), "a channel model: an object"),
    "transmission": (TRANSMISSIONS, ("__call__",), "a transmission solver: a function or an object"),
    "access": (ACCESSES, (), ""),
    "blocklength": (BLOCKLENGTHS, (), ""),
    "recovery": (RECOVERIES, ("bank", "lpips"), "a recovery: an object"),
    "reward": (REWARDS, ("__call__",), "a reward: a function or an object"),
    "observation": (OBSERVATIONS, ("__call__",), "an observation layout: a class"),
    "importance": (IMPORTANCES, ("__call__",), "an importance: a function or an object"),
    "lpips_net": (LPIPS_NETS, (), ""),
}
_SWITCHES: Final = ("same_image", "prune", "backlog")
_OPTIONAL: Final = frozenset(
    "blocklength distances_m doppler_hz image_ids latency_ref_s max_latency_s text_threshold visual_threshold".split()
)


@dataclass(frozen=True)
class Scenario:
    """Every knob of an environment; each field is a keyword of ``gym.make``.

    Defaults marked (assumption) are not given by the paper. Fields that name a part (``fading``, ``transmission``,
    ``recovery``, ``importance``, ``reward``, ``observation``) take an object with the part's protocol as well.

    Attributes:
        num_users: K, semantic users.
        num_antennas: N, receive antennas at the access point; N < K is where the decoding order matters (assumption).
        transmit_power_dbm: Transmit power of every user, one number or K (assumption: 3GPP power class 3).
        bandwidth_hz: B, shared by all users.
        noise_psd_dbm_hz: Noise power spectral density (assumption: thermal noise at 290 K).
        noise_figure_db: Receiver noise figure (assumption).
        min_distance_m: Inner radius of the annulus that users are dropped in (assumption).
        max_distance_m: Outer radius of that annulus (assumption).
        distances_m: K distances that replace the drop; None draws them at each reset.
        path_loss_intercept_db: Path loss at 1 km (assumption: 3GPP urban macro).
        path_loss_slope_db: Path loss a decade of distance (assumption: 3GPP urban macro).
        fading: ``"rayleigh"``, ``"rician"`` or a ``link.channel.ChannelModel`` (assumption: rayleigh).
        rician_factor_db: Power of the line of sight over the scattered power; read by ``"rician"`` alone (assumption:
            the mean of 3GPP TR 38.901's line-of-sight urban macro).
        doppler_hz: Maximum Doppler shift f_d of Gauss-Markov fading with correlation J0(2 pi f_d T) from step to step;
            None is block fading, an independent draw each step (assumption).
        step_period_s: T, time between two steps (assumption); read by ``doppler_hz`` and ``backlog`` alone.
        antenna_spacing_wavelengths: Spacing of the uniform linear array (assumption).
        images: Image set: the name of a bundled table (``"street-policy"``, ``"street-validation"``, ``"street-test"``)
            or the path of a table file. Not read if ``recovery`` is an object.
        image_ids: K image ids, one a user; None draws one a user at each reset.
        same_image: Every user sends the image drawn for the first one.
        prune: Features that pruning removed are unavailable; False makes every existing feature available.
        importance: ``"paper"`` ((22) and (23)), ``"fitted"`` (what a feature was worth on policy-training images) or an
            ``importance.Importance``; shown to agents, and compared with the thresholds.
        text_threshold: eps_t of (22) in [0, 1]; None is the importance's own, for the paper's that of the image set.
        visual_threshold: eps_v of (23) in [0, 1]; None likewise.
        transmission: ``"optimal"`` (joint optimum of beams and order), ``"paper"`` (worst-case beams and the
            fractional program), ``"distance"`` (near first, MMSE beams), ``"strength"`` (strongest first, MMSE beams),
            ``"exhaustive"`` (all orders, at most 8 users), ``"model_free"`` (the action holds beams and priorities) or
            a ``transmission.TransmissionSolver``.
        access: ``"noma"``, or orthogonal access with the shares of least latency: ``"tdma"`` (of time) or ``"fdma"``
            (of the band).
        blocklength: ``"normal"`` sends short messages at the error probability below (normal approximation); None sends
            at capacity.
        error_probability: Of a short message; read by ``blocklength="normal"`` alone (assumption).
        csi_error: Variance of the channel estimates' error over the channel's power; beams, order and shares are chosen
            from the estimates, rates follow from the channel. 0 is perfect knowledge.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.
        recovery: ``"table"``, ``"live"`` or a ``dynamics.Recovery``.
        models: Model preset, by name or as a mapping that swaps parts of one, kept as JSON; ``recovery="live"`` runs
            its models.
        lpips_net: Network of LPIPS (assumption).
        lpips_weight: lambda, weight of LPIPS against latency, in [0, 1] (assumption).
        latency_ref_s: tau_ref, latency that weighs as much as LPIPS 1.0 (assumption); None is the preset's,
            which every environment fills in (:meth:`settled`).
        max_latency_s: tau_max; None is 20 tau_ref (assumption), see :attr:`latency_cap_s`.
        violation_penalty: Subtracted from the reward when the latency exceeds tau_max (assumption).
        episode_length: Steps of an episode, which then truncates (assumption).
        backlog: Bits that do not fit into a step of ``step_period_s`` are sent in the next ones, see
            :mod:`~noma_semcom_env.backlog`; False lets every step be by itself.
        backlog_deadline_steps: d, steps after which a frame is recovered from what has arrived, its own the first; read
            with ``backlog`` alone (assumption).
        reward: ``"weighted_sum"`` (24), ``"worst_user"`` (the largest LPIPS, not the mean) or a ``reward.Reward``.
        observation: ``"features"``, ``"paper"`` (its exact state) or the class of an ``observation.ObservationLayout``.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field is out of range, or two fields contradict each other. The message names the field, its
            value and what is allowed.
    """

    num_users: int = 3
    num_antennas: int = 2
    transmit_power_dbm: float | tuple[float, ...] = 23.0
    bandwidth_hz: float = 1e6
    noise_psd_dbm_hz: float = -174.0
    noise_figure_db: float = 0.0
    min_distance_m: float = 50.0
    max_distance_m: float = 200.0
    distances_m: tuple[float, ...] | None = None
    path_loss_intercept_db: float = 128.1
    path_loss_slope_db: float = 37.6
    fading: str | object = "rayleigh"
    rician_factor_db: float = 9.0
    doppler_hz: float | None = None
    step_period_s: float = 0.01
    antenna_spacing_wavelengths: float = 0.5
    images: str = "street-policy"
    image_ids: tuple[str, ...] | None = None
    same_image: bool = False
    prune: bool = True
    importance: str | Callable[..., Any] = "paper"
    text_threshold: float | None = None
    visual_threshold: float | None = None
    transmission: str | Callable[..., Any] = "optimal"
    access: str = "noma"
    blocklength: str | None = None
    error_probability: float = 1e-3
    csi_error: float = 0.0
    sic_residual: float = 0.0
    recovery: str | object = "table"
    models: str | Mapping[str, Any] = "street"
    lpips_net: str = "alex"
    lpips_weight: float = 0.5
    latency_ref_s: float | None = None
    max_latency_s: float | None = None
    violation_penalty: float = 1.0
    episode_length: int = 20
    backlog: bool = False
    backlog_deadline_steps: int = 2
    reward: str | Callable[..., Any] = "weighted_sum"
    observation: str | Callable[..., Any] = "features"

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, self._checked(name, value))
        self._check_together()

    def _checked(self, name: str, value: Any) -> Any:
        if name in _WHOLE:
            return _whole(name, value, _WHOLE[name])
        if name == "distances_m" or (name == "transmit_power_dbm" and not isinstance(value, numbers.Real)):
            each = tuple(_real(f"{name}[{i}]", one, _REAL[name]) for i, one in enumerate(_sequence(name, value)))
            return self._one_a_user(name, each)
        if name in _REAL:
            return _real(name, value, _REAL[name])
        if name in _NAMES:
            return _part(name, value)
        if name in _SWITCHES:
            return _switch(name, value)
        if name == "image_ids":
            ids = tuple(_text(f"{name}[{i}]", one) for i, one in enumerate(_sequence(name, value)))
            return self._one_a_user(name, ids)
        if name == "models" and isinstance(value, Mapping):
            return _json_text(name, value)
        return _text(name, value)

    def _one_a_user(self, name: str, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(value) != self.num_users:
            raise ValueError(f"{name}={value!r} has {len(value)} entries; num_users={self.num_users} are needed")
        return value

    def _check_together(self) -> None:
        if self.max_distance_m < self.min_distance_m:
            raise ValueError(
                f"max_distance_m={self.max_distance_m!r} is below min_distance_m={self.min_distance_m!r}; "
                "the outer radius must be at least the inner one"
            )
        if self.same_image and self.image_ids is not None:
            raise ValueError(
                f"same_image=True contradicts image_ids={self.image_ids!r}; leave one of them out (the same id can be "
                "given for every user)"
            )
        if self.transmission == "exhaustive" and self.num_users > MAX_EXHAUSTIVE_USERS:
            raise ValueError(
                f"transmission='exhaustive' takes at most {MAX_EXHAUSTIVE_USERS} users, not "
                f"num_users={self.num_users!r}; 'optimal' finds the same latency for any number"
            )
        if self.access != "noma":
            # Users are decoded alone; and a wider sub-band does not always carry more of a short message.
            plain = {"transmission": "optimal", "sic_residual": 0.0}
            for name, only in (plain if self.access == "tdma" else plain | {"blocklength": None}).items():
                if getattr(self, name) != only:
                    raise ValueError(
                        f"access={self.access!r} contradicts {name}={getattr(self, name)!r}; leave it at {only!r}"
                    )

    @classmethod
    def of(cls, scenario: Scenario | None = None, knobs: Mapping[str, Any] | None = None) -> Scenario:
        """A scenario with some fields replaced.

        Args:
            scenario: Where to start; None is the default scenario.
            knobs: Fields to replace.

        Raises:
            TypeError: If a knob is no field, with the nearest field's name, or ``scenario`` is not a Scenario.
        """
        if scenario is not None and not isinstance(scenario, cls):
            raise TypeError(f"scenario={scenario!r} is a {type(scenario).__name__}; a Scenario is needed")
        knobs = dict(knobs or {})
        known = [field.name for field in fields(cls)]
        for name in knobs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"fields are: {', '.join(known)}"
                raise TypeError(f"{name!r} is no field of Scenario; {hint}")
        return cls(**knobs) if scenario is None else replace(scenario, **knobs)

    def settled(self, latency_ref_s: float) -> Scenario:
        """This scenario with the preset's tau_ref, in seconds, if it has none of its own."""
        return self if self.latency_ref_s is not None else replace(self, latency_ref_s=latency_ref_s)

    @property
    def reference_s(self) -> float:
        """tau_ref in seconds.

        Raises:
            ValueError: If it is left to a preset and the scenario is not settled.
        """
        if self.latency_ref_s is None:
            raise ValueError("latency_ref_s=None is left to the model preset; settle the scenario first, or give it")
        return self.latency_ref_s

    @property
    def latency_cap_s(self) -> float:
        """tau_max in seconds: ``max_latency_s``, or 20 tau_ref if that is None."""
        return 20 * self.reference_s if self.max_latency_s is None else self.max_latency_s

    @property
    def power_w(self) -> np.ndarray:
        """(K,) float64, transmit powers p_k in watts."""
        power_dbm = np.broadcast_to(np.asarray(self.transmit_power_dbm, dtype=np.float64), (self.num_users,))
        return np.asarray(10 ** ((power_dbm - 30) / 10))

    @property
    def noise_power_w(self) -> float:
        """sigma^2 = N0 B times the noise figure, in watts."""
        return float(10 ** ((self.noise_psd_dbm_hz + self.noise_figure_db - 30) / 10) * self.bandwidth_hz)

    def to_json(self) -> str:
        """The fields as a JSON object.

        Raises:
            TypeError: If a field holds an object rather than a name.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in _NAMES:
            if not isinstance(values[name], str | None):
                raise TypeError(f"{name}={values[name]!r} is an object; only parts given by name go into JSON")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Scenario:
        """The scenario that :meth:`to_json` wrote; fields that are missing take their defaults.

        Raises:
            ValueError: If the text is no JSON object, or a field is out of range.
            TypeError: If it holds a name that is no field, or a field has the wrong type.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"a scenario's JSON is an object of fields, not {type(values).__name__}")
        return cls.of(None, values)


def _whole(name: str, value: Any, allowed: _Range) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a whole number in {allowed} is needed")
    if not allowed.admits(int(value)):
        raise ValueError(f"{name}={value!r} is out of range; a whole number in {allowed} is needed")
    return int(value)


def _real(name: str, value: Any, allowed: _Range) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a number in {allowed} is needed")
    # Compared before it is turned into a float, which a huge whole number does not survive.
    if not allowed.admits(value):  # type: ignore[arg-type]
        raise ValueError(f"{name}={value!r} is out of range; a number in {allowed} is needed")
    return float(value)


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a sequence with one entry a user is needed")
    return list(value)


def _text(name: str, value: Any) -> str:
    text = fspath(value) if isinstance(value, PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a text is needed")
    if not text:
        raise ValueError(f"{name}={value!r} is empty; a name is needed")
    return str(text)


def _json_text(name: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), sort_keys=True, default=fspath)
    except TypeError as error:
        raise TypeError(
            f"{name}={value!r} holds what JSON does not know ({error}); texts and numbers are needed"
        ) from error


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; True or False is needed")
    return bool(value)


def _part(name: str, value: Any) -> Any:
    names, members, what = _NAMES[name]
    choices = f"choose one of {', '.join(map(repr, names))}"
    if what:
        choices += f", or give {what} with {', '.join(members)}"
    if isinstance(value, str):
        if value not in names:
            raise ValueError(f"{name}={value!r} is unknown; {choices}")
        return value
    missing = [member for member in members if not hasattr(value, member)]
    if missing or not members or (isinstance(value, type) and name != "observation"):
        raise TypeError(f"{name}={value!r} does not fit; {choices}")
    return value
