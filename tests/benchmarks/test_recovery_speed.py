"""The rate of recoveries is measured over jobs that are computed."""

from __future__ import annotations

import pytest

from noma_semcom_benchmarks.recovery_speed import measure


@pytest.mark.slow
def test_a_rate_is_measured() -> None:
    assert measure(seconds=0.1, processes=1, together=8) > 0
