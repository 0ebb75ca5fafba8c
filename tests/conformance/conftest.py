from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.vector.utils import batch_space

from noma_semcom_env import ENVIRONMENTS

_LARGEST = [row.id for row in ENVIRONMENTS if "num_users" in row.knobs][-1]
FAST = [row.id for row in ENVIRONMENTS if "num_users" not in row.knobs] + [_LARGEST]
"""Every task at its default size and the last of the families; the others run with the slow tests."""

IDS = [row.id if row.id in FAST else pytest.param(row.id, marks=pytest.mark.slow) for row in ENVIRONMENTS]
MIXTURES = [row.id for row in ENVIRONMENTS if row.id.startswith("Mixture")]
Policy = Callable[[dict[str, np.ndarray]], Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``name`` runs on every registered id, one that takes ``selecting`` on those of selections."""
    for argument, ids in {"name": IDS, "selecting": [name for name in IDS if name not in MIXTURES]}.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, ids)


@pytest.fixture
def images(name: str, table_path: str, mixture_path: str) -> str:
    """A small image set of the kind that the id takes."""
    return mixture_path if name in MIXTURES else table_path


def sampler(space: Any, seed: int) -> Policy:
    """Draws actions of a space, whatever is seen."""
    own = batch_space(space, 1)
    own.seed(seed)

    def act(observation: dict[str, np.ndarray]) -> Any:
        action = own.sample()
        return {key: value[0] for key, value in action.items()} if isinstance(action, dict) else action[0]

    return act


@pytest.fixture
def sample() -> Callable[[Any, int], Policy]:
    """``sampler``."""
    return sampler
