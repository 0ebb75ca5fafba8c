from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.scenario import Scenario

BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("num_users", 0, ValueError, "[1, 64]"),
    ("num_users", 2.0, TypeError, "[1, 64]"),
    ("num_users", True, TypeError, "[1, 64]"),
    ("num_antennas", -1, ValueError, "[1, 1024]"),
    ("episode_length", 0, ValueError, "[1, 1e+06]"),
    ("transmit_power_dbm", math.inf, ValueError, "[-100, 100] dBm"),
    ("transmit_power_dbm", "23", TypeError, "one entry a user"),
    ("bandwidth_hz", -1e6, ValueError, "[0.001, 1e+12] Hz"),
    ("bandwidth_hz", 0, ValueError, "[0.001, 1e+12] Hz"),
    ("bandwidth_hz", math.nan, ValueError, "[0.001, 1e+12] Hz"),
    ("bandwidth_hz", "1e6", TypeError, "[0.001, 1e+12] Hz"),
    ("bandwidth_hz", None, TypeError, "[0.001, 1e+12] Hz"),
    ("noise_psd_dbm_hz", 10.0, ValueError, "[-300, 0] dBm/Hz"),
    ("noise_figure_db", -1.0, ValueError, "[0, 100] dB"),
    ("min_distance_m", 0.0, ValueError, "[0.001, 1e+06] m"),
    ("max_distance_m", -5.0, ValueError, "[0.001, 1e+06] m"),
    ("path_loss_intercept_db", 1e4, ValueError, "[-300, 300] dB"),
    ("path_loss_slope_db", -1.0, ValueError, "[0, 200]"),
    ("fading", "nakagami", ValueError, "'rayleigh', 'rician'"),
    ("fading", 3, TypeError, "sample"),
    ("rician_factor_db", 1e3, ValueError, "[-100, 100] dB"),
    ("doppler_hz", -1.0, ValueError, "[0, 1e+06] Hz"),
    ("step_period_s", 0.0, ValueError, "[1e-12, 1e+06] s"),
    ("step_period_s", 10**400, ValueError, "[1e-12, 1e+06] s"),
    ("antenna_spacing_wavelengths", 0.0, ValueError, "[1e-06, 1000] wavelengths"),
    ("images", "", ValueError, "a name is needed"),
    ("images", 3, TypeError, "a text is needed"),
    ("same_image", 1, TypeError, "True or False"),
    ("prune", "no", TypeError, "True or False"),
    ("transmission", "greedy", ValueError, "'optimal', 'exhaustive', 'paper', 'distance', 'strength'"),
    ("transmission", 7, TypeError, "a transmission solver"),
    ("access", "cdma", ValueError, "'noma', 'tdma', 'fdma'"),
    ("access", object(), TypeError, "'noma', 'tdma', 'fdma'"),
    ("blocklength", "short", ValueError, "'normal'"),
    ("blocklength", 100, TypeError, "'normal'"),
    ("error_probability", 0.0, ValueError, "[1e-12, 0.5]"),
    ("csi_error", 1.5, ValueError, "[0, 1]"),
    ("sic_residual", -0.1, ValueError, "[0, 1]"),
    ("recovery", "diffusion", ValueError, "'table', 'live'"),
    ("recovery", object(), TypeError, "bank, lpips"),
    ("models", "", ValueError, "a name is needed"),
    ("models", 3, TypeError, "a text is needed"),
    ("models", {"captioner": object}, TypeError, "texts and numbers"),
    ("importance", "gradient", ValueError, "'paper', 'fitted'"),
    ("importance", 0.5, TypeError, "an importance"),
    ("text_threshold", -0.1, ValueError, "[0, 1]"),
    ("visual_threshold", 1.1, ValueError, "[0, 1]"),
    ("lpips_net", "squeeze", ValueError, "'alex', 'vgg'"),
    ("lpips_net", object(), TypeError, "'alex', 'vgg'"),
    ("lpips_weight", 1.5, ValueError, "[0, 1]"),
    ("latency_ref_s", 0.0, ValueError, "[1e-12, 1e+06] s"),
    ("max_latency_s", -1.0, ValueError, "[1e-12, 1e+09] s"),
    ("violation_penalty", -1.0, ValueError, "[0, 1e+06]"),
    ("backlog", 1, TypeError, "True or False"),
    ("backlog_deadline_steps", 0, ValueError, "[1, 64]"),
    ("reward", "sparse", ValueError, "'weighted_sum'"),
    ("observation", "pixels", ValueError, "'features'"),
]


@pytest.mark.parametrize(("field", "value", "error", "allowed"), BAD, ids=[f"{f}={v!r:.12}" for f, v, _, _ in BAD])
def test_refusals_name_the_field_its_value_and_what_is_allowed(
    field: str, value: Any, error: type[Exception], allowed: str
) -> None:
    with pytest.raises(error) as caught:
        Scenario(**{field: value})
    assert f"{field}={value!r}" in str(caught.value)
    assert allowed in str(caught.value)


def test_every_field_is_refused_somewhere() -> None:
    tested = {field for field, *_ in BAD} | {"distances_m", "image_ids"}
    assert tested == {field.name for field in dataclasses.fields(Scenario)}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"distances_m": [100.0, 100.0]}, r"distances_m=\(100.0, 100.0\) has 2 entries; num_users=3"),
        ({"distances_m": [100.0, 0.0, 3.0]}, r"distances_m\[1\]=0.0 is out of range.*\[0.001, 1e\+06\] m"),
        ({"transmit_power_dbm": [1.0]}, r"transmit_power_dbm=\(1.0,\) has 1 entries; num_users=3"),
        ({"image_ids": ["a", "b"]}, r"image_ids=\('a', 'b'\) has 2 entries; num_users=3"),
        ({"min_distance_m": 300.0}, r"max_distance_m=200.0 is below min_distance_m=300.0"),
        ({"same_image": True, "image_ids": ["a", "a", "a"]}, "same_image=True contradicts image_ids="),
        ({"num_users": 9, "transmission": "exhaustive"}, "'exhaustive' takes at most 8 users, not num_users=9"),
        (
            {"access": "tdma", "transmission": "paper"},
            "access='tdma' contradicts transmission='paper'; leave it at 'optimal'",
        ),
        ({"access": "fdma", "sic_residual": 0.1}, r"access='fdma' contradicts sic_residual=0\.1"),
        ({"access": "fdma", "blocklength": "normal"}, "access='fdma' contradicts blocklength='normal'"),
    ],
)
def test_contradictions_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenario(**knobs)


def test_wrong_types_within_sequences() -> None:
    with pytest.raises(TypeError, match=r"image_ids\[1\]=3 is a int"):
        Scenario(num_users=2, image_ids=("a", 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="distances_m=5.0 is a float; a sequence"):
        Scenario(distances_m=5.0)  # type: ignore[arg-type]


def test_unknown_fields_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match="'bandwith_hz' is no field of Scenario; did you mean 'bandwidth_hz'"):
        Scenario.of(None, {"bandwith_hz": 1e6})
    with pytest.raises(TypeError, match="'zzz' is no field of Scenario; fields are: num_users"):
        Scenario.of(None, {"zzz": 1})
    with pytest.raises(TypeError, match="scenario='street' is a str"):
        Scenario.of("street")  # type: ignore[arg-type]


def test_of_replaces_fields_of_a_given_scenario() -> None:
    base = Scenario(num_antennas=4)
    assert Scenario.of(base) == base
    assert Scenario.of(base, {"num_users": 5}) == Scenario(num_users=5, num_antennas=4)


def test_numpy_values_and_lists_become_plain_ones() -> None:
    one = Scenario(
        num_users=np.int64(2),  # type: ignore[arg-type]
        transmit_power_dbm=np.array([10.0, 20.0]),  # type: ignore[arg-type]
        distances_m=[60, 70],  # type: ignore[arg-type]
        prune=np.True_,  # type: ignore[arg-type]
        images=Path("here/table.npz"),  # type: ignore[arg-type]
    )
    assert one == Scenario(2, 2, (10.0, 20.0), distances_m=(60.0, 70.0), images=str(Path("here/table.npz")))
    assert type(one.num_users) is int
    assert hash(one) == hash(Scenario.from_json(one.to_json()))


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(),
        Scenario(num_users=2, transmit_power_dbm=(20.0, 23.0), distances_m=(60.0, 199.0), image_ids=("a", "b")),
        Scenario(fading="rician", doppler_hz=5.0, max_latency_s=0.01, prune=False, transmission="paper"),
        Scenario(access="tdma", blocklength="normal", error_probability=1e-5, csi_error=0.1),
        Scenario(models={"preset": "sd15", "denoising_steps": 5}, importance="fitted", text_threshold=0.1),
    ],
)
def test_json_round_trip(scenario: Scenario) -> None:
    text = scenario.to_json()
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Scenario)}
    assert Scenario.from_json(text) == scenario


def test_json_refuses_objects_and_other_texts() -> None:
    with pytest.raises(TypeError, match="transmission=.* is an object"):
        Scenario(transmission=lambda *_: None).to_json()
    with pytest.raises(ValueError, match="object of fields, not list"):
        Scenario.from_json("[]")
    with pytest.raises(TypeError, match="'users' is no field"):
        Scenario.from_json('{"users": 3}')


def test_classes_in_place_of_objects_are_refused() -> None:
    class Solver:
        def __call__(self) -> None: ...

    with pytest.raises(TypeError, match="transmission="):
        Scenario(transmission=Solver)
    assert callable(Scenario(transmission=Solver()).transmission)


def test_derived_figures_in_si_units() -> None:
    one = Scenario(num_users=2, transmit_power_dbm=(30.0, 20.0), bandwidth_hz=1e6, noise_figure_db=3.0)
    np.testing.assert_allclose(one.power_w, [1.0, 0.1])
    # -174 dBm/Hz over 1 MHz is -114 dBm, and the noise figure adds 3 dB.
    np.testing.assert_allclose(one.noise_power_w, 10 ** ((-111.0 - 30.0) / 10))
    np.testing.assert_allclose(Scenario().power_w, np.full(3, 0.19952623))
    assert Scenario(latency_ref_s=2e-3).latency_cap_s == pytest.approx(0.04)
    assert Scenario(max_latency_s=0.5).latency_cap_s == 0.5


def test_the_reference_latency_is_the_presets_unless_given() -> None:
    left_open = Scenario()
    with pytest.raises(ValueError, match="latency_ref_s=None is left to the model preset"):
        _ = left_open.latency_cap_s
    assert left_open.settled(0.003).latency_cap_s == pytest.approx(0.06)
    assert Scenario(latency_ref_s=2e-3).settled(0.003).latency_ref_s == 2e-3


def test_models_as_a_mapping_are_kept_in_one_order() -> None:
    one = Scenario(models={"preset": "sd15", "captioner": Path("mine")})
    assert one == Scenario(models={"captioner": "mine", "preset": "sd15"})
    assert hash(one) == hash(Scenario.from_json(one.to_json()))
