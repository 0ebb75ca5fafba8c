"""Scenarios of the Mixture of Semantics environments: every knob in a frozen, validated dataclass."""

from __future__ import annotations

import difflib
import json
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from os import PathLike, fspath
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np

from noma_semcom_env.scenario import Scenario

CHANNELS: Final = ("awgn", "rayleigh")
ACCOUNTINGS: Final = ("counted", "paper")
RECOVERIES: Final = ("table", "live")
CONTROLS: Final = ("alpha", "cbr", "margin")


class Limits(NamedTuple):
    """Allowed values of one number, with the words that an error says about it."""

    low: float
    high: float
    unit: str = ""
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} in [{self.low:g}, {self.high:g}]{self.unit and ' ' + self.unit}"

    def check(self, name: str, value: Any) -> float:
        """The number as Python's own.

        Raises:
            TypeError: If it is none, or a fraction where a whole one is needed.
            ValueError: If it is out of range.
        """
        kind: type = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
            raise TypeError(f"{name}={value!r} is a {type(value).__name__}; {self} is needed")
        if not self.low <= value <= self.high:  # type: ignore[operator]
            raise ValueError(f"{name}={value!r} is out of range; {self} is needed")
        return int(value) if self.whole else float(value)  # type: ignore[call-overload,arg-type]


_CBR: Final = Limits(1e-6, 10.0)
_SNR: Final = Limits(-100.0, 100.0, "dB")


@dataclass(frozen=True)
class MixtureBase:
    """What both Mixture of Semantics environments share; see :class:`MixtureScenario`."""

    images: str = "street-policy"
    image_ids: tuple[str, ...] | None = None
    alpha_range: tuple[float, float] = (0.0, 1.0)
    cbr_range: tuple[float, float] = (0.02, 0.12)
    accounting: str = "counted"
    recovery: str | object = "table"
    models: str | Mapping[str, Any] = "street_mixture"
    psnr_weight: float = 0.5
    psnr_ref_db: float = 40.0
    clip_ceiling: float | None = None
    undecodable_penalty: float = 0.1
    episode_length: int = 20

    _LIMITS: ClassVar[dict[str, Limits]] = {
        "alpha_range": Limits(0.0, 1.0),
        "cbr_range": _CBR,
        "psnr_weight": Limits(0.0, 1.0),
        "psnr_ref_db": Limits(1e-3, 1e3, "dB"),
        "clip_ceiling": Limits(1e-6, 1.0),
        "undecodable_penalty": Limits(0.0, 1e6),
        "episode_length": Limits(1, 1_000_000, "steps", whole=True),
    }
    _PAIRS: ClassVar[tuple[str, ...]] = ("alpha_range", "cbr_range")
    _LISTS: ClassVar[tuple[str, ...]] = ()
    _OPTIONAL: ClassVar[tuple[str, ...]] = ("image_ids", "clip_ceiling")
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"accounting": ACCOUNTINGS}

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is not None or name not in self._OPTIONAL:
                object.__setattr__(self, name, self._checked(name, value))
        self._check_together()

    def _checked(self, name: str, value: Any) -> Any:
        if name in (*self._PAIRS, *self._LISTS):
            return self._several(name, value)
        if name in self._LIMITS:
            return self._LIMITS[name].check(name, value)
        if name in self._CHOICES:
            return _one_of(name, value, self._CHOICES[name])
        if name == "recovery":
            return _recovery(value)
        if name == "image_ids":
            ids = tuple(_text(f"{name}[{i}]", one) for i, one in enumerate(_sequence(name, value)))
            if not ids:
                raise ValueError(f"{name}={value!r} is empty; at least one id is needed, or None for all")
            return ids
        if name == "models" and isinstance(value, Mapping):
            return json.dumps(dict(value), sort_keys=True, default=fspath)
        return _text(name, value)

    def _several(self, name: str, value: Any) -> tuple[float, ...]:
        found = tuple(self._LIMITS[name].check(f"{name}[{i}]", one) for i, one in enumerate(_sequence(name, value)))
        if name in self._PAIRS and (len(found) != 2 or found[0] > found[1]):
            raise ValueError(f"{name}={value!r} must be two numbers, the least and the most")
        if not found:
            raise ValueError(f"{name}={value!r} is empty; at least one number is needed")
        return found

    def _check_together(self) -> None:
        """Refuse fields that contradict each other."""

    @classmethod
    def of(cls, scenario: Self | None = None, knobs: Mapping[str, Any] | None = None) -> Self:
        """A scenario with some fields replaced.

        Args:
            scenario: Where to start; None is the default scenario.
            knobs: Fields to replace.

        Raises:
            TypeError: If a knob is no field, with the nearest field's name, or ``scenario`` is of another class.
        """
        if scenario is not None and not isinstance(scenario, cls):
            raise TypeError(f"scenario={scenario!r} is a {type(scenario).__name__}; a {cls.__name__} is needed")
        knobs = dict(knobs or {})
        known = [field.name for field in fields(cls)]
        for name in knobs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"fields are: {', '.join(known)}"
                raise TypeError(f"{name!r} is no field of {cls.__name__}; {hint}")
        return cls(**knobs) if scenario is None else replace(scenario, **knobs)

    def to_json(self) -> str:
        """The fields as a JSON object.

        Raises:
            TypeError: If the recovery is an object rather than a name.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if not isinstance(value, str | int | float | tuple | None):
                raise TypeError(f"{name}={value!r} is an object; only parts given by name go into JSON")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The scenario that :meth:`to_json` wrote; fields that are missing take their defaults.

        Raises:
            ValueError: If the text is no JSON object, or a field is out of range.
            TypeError: If it holds a name that is no field, or a field has the wrong type.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"a scenario's JSON is an object of fields, not {type(values).__name__}")
        return cls.of(None, values)


@dataclass(frozen=True)
class MixtureScenario(MixtureBase):
    """Every knob of ``MixtureOfSemantics-v0``; each field is a keyword of ``gym.make``.

    Defaults marked (assumption) are not given by the paper.

    Attributes:
        images: Image set: the name of a bundled mixture table (``"street-policy"``, ``"street-validation"``,
            ``"street-test"``) or the path of a table file. Not read if ``recovery`` is an object.
        image_ids: Items (image and prompt) that are drawn from; None is all of the set.
        alpha_range: What the least and the largest action mean; a narrower range is easier to hit, since texts need few
            symbols.
        cbr_range: Least and most bandwidth ratio, symbols / (3HW), that the agent can choose; read with ``"cbr"`` among
            the controls alone.
        accounting: ``"counted"`` takes the mask's symbols from the budget; ``"paper"`` lets it arrive for nothing.
        recovery: ``"table"``, ``"live"`` (the transceiver runs in ``step()``) or a
            ``mixture_parts.MixtureRecovery``.
        models: Models of ``recovery="live"``: a preset's name, or a mapping that swaps parts of one, kept as JSON.
        psnr_weight: w, weight of PSNR-ROI against CLIP-RONI, in [0, 1] (assumption).
        psnr_ref_db: PSNR-ROI that is worth 1 (assumption).
        clip_ceiling: CLIP-RONI that is worth 1; None is that of the bundled policy items where text costs nothing, for
            all tables by the bundled models, and the table's own for others.
        undecodable_penalty: Subtracted where the text cannot be decoded, times the share of the seeds for which that is
            so (assumption).
        episode_length: Steps of an episode, which then truncates (assumption).
        channel: ``"rayleigh"`` (block fading, known to the receiver alone) or ``"awgn"``.
        snr_range_db: Least and most mean SNR in dB of a complex symbol; drawn uniformly at each step.
        snr_values_db: SNRs to draw from instead; None draws from the range.
        cbr_values: Bandwidth ratios to draw from at each step (assumption).
        controls: What the action sets: ``"alpha"`` always, ``"cbr"`` and ``"margin"`` by option.
        cbr_weight: Subtracted times CBR / the largest CBR if the agent controls the CBR, which would cost nothing
            otherwise (assumption).
        mask_outage: Probability with which a Rayleigh fade falls short of the mask's rate, so that the region is lost
            (assumption); read with ``"counted"`` masks alone.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field is out of range, or two fields contradict each other. The message names the field, its
            value and what is allowed.
    """

    channel: str = "rayleigh"
    snr_range_db: tuple[float, float] = (0.0, 20.0)
    snr_values_db: tuple[float, ...] | None = None
    cbr_values: tuple[float, ...] = (0.032, 0.048, 0.064, 0.08, 0.096)
    controls: tuple[str, ...] = ("alpha",)
    cbr_weight: float = 0.04
    mask_outage: float = 0.1

    _LIMITS: ClassVar[dict[str, Limits]] = {
        **MixtureBase._LIMITS,
        "snr_range_db": _SNR,
        "snr_values_db": _SNR,
        "cbr_values": _CBR,
        "cbr_weight": Limits(0.0, 1e6),
        "mask_outage": Limits(1e-6, 1 - 1e-6),
    }
    _PAIRS: ClassVar[tuple[str, ...]] = (*MixtureBase._PAIRS, "snr_range_db")
    _LISTS: ClassVar[tuple[str, ...]] = ("snr_values_db", "cbr_values")
    _OPTIONAL: ClassVar[tuple[str, ...]] = (*MixtureBase._OPTIONAL, "snr_values_db")
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {**MixtureBase._CHOICES, "channel": CHANNELS}

    def _checked(self, name: str, value: Any) -> Any:
        if name != "controls":
            return super()._checked(name, value)
        chosen = tuple(_one_of(f"{name}[{i}]", one, CONTROLS) for i, one in enumerate(_sequence(name, value)))
        if chosen[:1] != ("alpha",) or len(set(chosen)) < len(chosen):
            raise ValueError(f"controls={value!r} must begin with 'alpha' and hold none of {CONTROLS} twice")
        return chosen

    def _check_together(self) -> None:
        low, high = self.cbr_range
        for i, one in enumerate(self.cbr_values):
            if "cbr" in self.controls and not low <= one <= high:
                raise ValueError(
                    f"cbr_values[{i}]={one!r} lies outside cbr_range={self.cbr_range!r}, within which the agent "
                    "chooses; widen the range"
                )


@dataclass(frozen=True)
class MixtureNomaScenario(MixtureBase):
    """Every knob of ``MixtureOfSemanticsNoma-v0``; each field is a keyword of ``gym.make``.

    Fields of the uplink are those of :class:`~noma_semcom_env.scenario.Scenario`, with its ranges and defaults; fields
    of the mixture are those of :class:`MixtureScenario`. Its own are these.

    Attributes:
        transmission: ``"optimal"`` (beams and order of least latency) or ``"exhaustive"`` (all orders, at most 8
            users).
        quality_weight: lambda, weight of the mean quality against latency, in [0, 1] (assumption).
        latency_ref_s: tau_ref, latency that weighs as much as quality 1 (assumption).
        max_latency_s: tau_max; None is 20 tau_ref (assumption).

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field is out of range, or two fields contradict each other.
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
    transmission: str = "optimal"
    sic_residual: float = 0.0
    quality_weight: float = 0.5
    latency_ref_s: float = 0.1
    max_latency_s: float | None = None
    violation_penalty: float = 1.0

    _LIMITS: ClassVar[dict[str, Limits]] = {**MixtureBase._LIMITS, "quality_weight": Limits(0.0, 1.0)}
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        **MixtureBase._CHOICES,
        "transmission": ("optimal", "exhaustive"),
    }
    _OPTIONAL: ClassVar[tuple[str, ...]] = (*MixtureBase._OPTIONAL, "distances_m", "doppler_hz", "max_latency_s")

    def __post_init__(self) -> None:
        link = self.link
        for name in _LINK_FIELDS:
            object.__setattr__(self, name, getattr(link, name))
        super().__post_init__()

    def _checked(self, name: str, value: Any) -> Any:
        if value is None:
            raise TypeError(f"{name}=None is not allowed; a number is needed")
        if name in _LINK_FIELDS and name not in self._CHOICES:
            return value
        return super()._checked(name, value)

    @property
    def link(self) -> Scenario:
        """The fields of the uplink as a scenario of their own, which checks them."""
        return Scenario(**{name: getattr(self, name) for name in _LINK_FIELDS})

    @property
    def latency_cap_s(self) -> float:
        """tau_max in seconds: ``max_latency_s``, or 20 tau_ref if that is None."""
        return 20 * self.latency_ref_s if self.max_latency_s is None else self.max_latency_s


_LINK_FIELDS: Final = tuple(
    field.name
    for field in fields(MixtureNomaScenario)
    if field.name in {own.name for own in fields(Scenario)}
    and field.name not in {own.name for own in fields(MixtureBase)}
)
"""Fields of the uplink, which mean what they mean in :class:`~noma_semcom_env.scenario.Scenario`."""


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a sequence is needed")
    return list(value)


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; one of {choices} is needed")
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}")
    return value


def _recovery(value: Any) -> Any:
    if isinstance(value, str):
        return _one_of("recovery", value, RECOVERIES)
    if isinstance(value, type) or not all(hasattr(value, member) for member in ("items", "quality", "clip_ceiling")):
        raise TypeError(
            f"recovery={value!r} does not fit; choose one of {', '.join(map(repr, RECOVERIES))}, or give a recovery: "
            "an object with items, quality, clip_ceiling"
        )
    return value


def _text(name: str, value: Any) -> str:
    text = fspath(value) if isinstance(value, PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a text is needed")
    if not text:
        raise ValueError(f"{name}={value!r} is empty; a name is needed")
    return str(text)
