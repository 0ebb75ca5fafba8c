"""Scenarios of the mixture environments: validated at the door, and the same after JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env import MixtureNomaScenario, MixtureScenario, Scenario

BOTH = (MixtureScenario, MixtureNomaScenario)


@pytest.mark.parametrize("kind", BOTH)
def test_defaults_are_valid_and_survive_json(kind: Any) -> None:
    one = kind()
    assert kind.from_json(one.to_json()) == one
    assert hash(one) == hash(kind())


def test_sequences_become_tuples_and_numbers_pythons_own() -> None:
    one = MixtureScenario(
        snr_range_db=[3, np.float32(9)],
        cbr_values=np.array([0.05]),
        controls=["alpha", "margin"],
        image_ids=["a", "b"],
        models={"inpainting": Path("x")},
        episode_length=np.int64(7),
    )
    assert one.snr_range_db == (3.0, 9.0)
    assert one.controls == ("alpha", "margin")
    assert json.loads(str(one.models)) == {"inpainting": "x"}
    assert MixtureScenario.from_json(one.to_json()) == one
    uplink = MixtureNomaScenario(num_users=2, distances_m=[60, 70], transmit_power_dbm=[20, 23])
    assert uplink.distances_m == (60.0, 70.0)
    assert MixtureNomaScenario.from_json(uplink.to_json()) == uplink


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"psnr_weight": 1.5}, ValueError, r"psnr_weight=1\.5 is out of range; a number in \[0, 1\] is needed"),
        ({"psnr_weight": float("nan")}, ValueError, "psnr_weight=nan"),
        ({"psnr_weight": "high"}, TypeError, "psnr_weight='high' is a str"),
        ({"psnr_weight": None}, TypeError, "psnr_weight=None"),
        ({"psnr_ref_db": 0}, ValueError, "psnr_ref_db=0"),
        ({"clip_ceiling": 0.0}, ValueError, "clip_ceiling=0.0"),
        ({"undecodable_penalty": -1}, ValueError, "undecodable_penalty=-1"),
        ({"episode_length": 0}, ValueError, r"episode_length=0 .*whole number in \[1, 1e\+06\] steps"),
        ({"episode_length": 2.5}, TypeError, "episode_length=2.5 is a float"),
        ({"episode_length": True}, TypeError, "episode_length=True"),
        ({"cbr_range": (0.1, 0.05)}, ValueError, "two numbers, the least and the most"),
        ({"cbr_range": (0.1,)}, ValueError, "two numbers"),
        ({"alpha_range": (0.5, 1.5)}, ValueError, r"alpha_range\[1\]=1\.5"),
        ({"cbr_range": 0.1}, TypeError, "a sequence is needed"),
        ({"cbr_range": (0.0, 0.1)}, ValueError, r"cbr_range\[0\]=0\.0"),
        ({"accounting": "guess"}, ValueError, "accounting='guess' is unknown; choose one of 'counted', 'paper'"),
        ({"accounting": 3}, TypeError, "accounting=3"),
        ({"recovery": "dream"}, ValueError, "recovery='dream'"),
        ({"recovery": object()}, TypeError, "an object with items, quality, clip_ceiling"),
        ({"images": ""}, ValueError, "images=''"),
        ({"images": 3}, TypeError, "images=3"),
        ({"image_ids": ()}, ValueError, "image_ids=.*empty"),
        ({"image_ids": "a"}, TypeError, "image_ids='a'"),
    ],
)
def test_bad_fields_are_refused(kind: Any, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kind(**change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"channel": "fog"}, ValueError, "channel='fog'"),
        ({"snr_range_db": (float("-inf"), 3.0)}, ValueError, r"snr_range_db\[0\]=-inf .*\[-100, 100\] dB"),
        ({"snr_values_db": ()}, ValueError, "snr_values_db=.*empty"),
        ({"cbr_values": (0.05, 20.0)}, ValueError, r"cbr_values\[1\]=20\.0"),
        ({"controls": ("cbr",)}, ValueError, "must begin with 'alpha'"),
        ({"controls": ("alpha", "alpha")}, ValueError, "twice"),
        ({"controls": ("alpha", "beta")}, ValueError, r"controls\[1\]='beta'"),
        ({"controls": ("alpha", "cbr"), "cbr_values": (0.2,)}, ValueError, "outside cbr_range"),
        ({"mask_outage": 0.0}, ValueError, "mask_outage=0.0"),
        ({"cbr_weight": -0.1}, ValueError, "cbr_weight=-0.1"),
    ],
)
def test_bad_fields_of_the_single_user_are_refused(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MixtureScenario(**change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_users": 0}, ValueError, "num_users=0"),
        ({"distances_m": (50.0,)}, ValueError, "distances_m=.*num_users=3"),
        ({"min_distance_m": 300.0}, ValueError, "max_distance_m=200.0 is below"),
        ({"transmission": "model_free"}, ValueError, "transmission='model_free' is unknown"),
        ({"transmission": "exhaustive", "num_users": 9}, ValueError, "at most 8 users"),
        ({"fading": "fog"}, ValueError, "fading='fog'"),
        ({"quality_weight": 2.0}, ValueError, "quality_weight=2.0"),
        ({"latency_ref_s": None}, TypeError, "latency_ref_s=None"),
        ({"sic_residual": 1.5}, ValueError, "sic_residual=1.5"),
    ],
)
def test_bad_fields_of_the_uplink_are_refused(change: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MixtureNomaScenario(**change)


@pytest.mark.parametrize("kind", BOTH)
def test_unknown_names_are_refused_with_the_nearest(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"'psnr_wait' is no field of {kind.__name__}; did you mean 'psnr_weight'"):
        kind.of(None, {"psnr_wait": 0.5})
    with pytest.raises(TypeError, match=f"a {kind.__name__} is needed"):
        kind.of(Scenario())
    with pytest.raises(ValueError, match="an object of fields"):
        kind.from_json("[]")
    assert kind.of(kind(psnr_weight=0.2), {"episode_length": 3}).psnr_weight == 0.2


def test_objects_do_not_go_into_json(make_mixture: Any) -> None:
    with pytest.raises(TypeError, match="recovery=.*is an object"):
        MixtureScenario(recovery=make_mixture()).to_json()


def test_the_uplinks_fields_are_the_scenarios() -> None:
    """Same names, same defaults, except what the mixture settles itself."""
    own = {field.name: field.default for field in fields(MixtureNomaScenario)}
    link = {field.name: field.default for field in fields(Scenario)}
    settled = {"images", "image_ids", "recovery", "models", "episode_length", "latency_ref_s"}
    for name in own.keys() & link.keys() - settled:
        assert own[name] == link[name], name
    assert MixtureNomaScenario().link.num_users == 3
    assert MixtureNomaScenario(latency_ref_s=0.01).latency_cap_s == 0.2
    assert MixtureNomaScenario(max_latency_s=0.3).latency_cap_s == 0.3
