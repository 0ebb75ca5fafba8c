"""The channel model of an uplink, from the fading that its scenario names or holds."""

from __future__ import annotations

from typing import cast

from noma_semcom_env.link.channel import ChannelModel, RayleighChannel, RicianChannel, gauss_markov_correlation
from noma_semcom_env.scenario import Scenario


def channel_model(scenario: Scenario) -> ChannelModel:
    """The channel model that a scenario names or holds."""
    if not isinstance(scenario.fading, str):
        return cast(ChannelModel, scenario.fading)
    block_fading = scenario.doppler_hz is None
    rho = 0.0 if block_fading else gauss_markov_correlation(scenario.doppler_hz or 0.0, scenario.step_period_s)
    law = {
        "path_loss_intercept_db": scenario.path_loss_intercept_db,
        "path_loss_slope_db": scenario.path_loss_slope_db,
    }
    if scenario.fading == "rician":
        return RicianChannel(scenario.rician_factor_db, rho, scenario.antenna_spacing_wavelengths, **law)
    return RayleighChannel(rho, **law)
