"""Policies for other numbers of users, and the table of the other style."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from noma_semcom_agents.evaluation import Contender
from noma_semcom_agents.learned import LearnedPolicy
from noma_semcom_agents.networks import make_actor
from noma_semcom_benchmarks import transfer
from noma_semcom_benchmarks.sweeps import Scheme, measure
from noma_semcom_benchmarks.transfer import resized

WIDTH = 6
INPUTS = ("snr", "direction", "last_order", "bandwidth", "size", "importance", "modality", "label")


def untrained(users: int) -> Scheme:
    settings = {"network": "equivariant", "width": 8, "label_width": 4, "labels": 8, "slices": None}
    settings |= {"inputs": dict.fromkeys(INPUTS, 1), "mask": "action_mask", "bits": users * WIDTH}
    settings |= {"beams": 0, "priorities": 0}
    module: Any = SimpleNamespace(actor=make_actor(settings), settings=settings)
    return Scheme("policy", {0: Contender(LearnedPolicy(module, "policy"), label="policy")}, {})


def test_a_policy_is_carried_over_with_its_weights(table_path: str) -> None:
    own = untrained(3)
    for users in (3, 5):
        other = resized(own, users, WIDTH)
        policy, before = (one.contenders[0].policy for one in (other, own))
        assert policy.module.actor is before.module.actor  # type: ignore[attr-defined]
        found = measure([other], {"images": table_path, "num_users": users, "episode_length": 2}, 4)
        assert np.isfinite(found.sample("policy", "reward").values).all()
    found = measure([own], {"images": table_path, "num_users": 5, "episode_length": 2}, 4)
    assert np.isfinite(found.sample("policy", "reward").values).all()


def test_the_table_of_the_other_style_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def tabulate(source: str, output: Path, seeds: tuple[int, ...], count: int) -> None:
        made.append((source, seeds, count))
        output.touch()

    monkeypatch.setattr(transfer, "tabulate_images", tabulate)
    path = tmp_path / "new" / "crayon.npz"
    assert transfer.crayon_table(path) == transfer.crayon_table(path) == path
    assert made == [("street:test:crayon", (0, 1), 12)]
