"""How many examples the fuzzed tests try: few where slow tests are left out, many where everything runs."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Choose the number before the tests are read."""
    from hypothesis import settings

    few = "not slow" in config.option.markexpr
    settings.register_profile("fuzz", max_examples=50 if few else 1000)
    settings.load_profile("fuzz")
