"""The training loop: the same run whether or not it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from noma_semcom_env.zoo.train.fit import LossFunction, Schedule, fit

SCHEDULE = Schedule(steps=60, rate=1e-2, warmup=5, averaging=0.9, checkpoint_s=0.0)


def problem() -> tuple[nn.Linear, LossFunction]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    target = torch.tensor([[1.0, -2.0, 0.5, 3.0]])

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        inputs = torch.randn(16, 4, generator=generator)
        return {"loss": ((model(inputs) - inputs @ target.T) ** 2).mean()}

    return model, loss


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, loss = problem()
    fit("whole", [whole], loss, SCHEDULE, tmp_path / "whole")

    killed, loss = problem()
    calls = 0

    def dies(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 37:
            raise KeyboardInterrupt
        return loss(generator, progress)

    with pytest.raises(KeyboardInterrupt):
        fit("killed", [killed], dies, SCHEDULE, tmp_path / "killed")
    resumed, loss = problem()
    went_on = 0

    def counts(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        nonlocal went_on
        went_on += 1
        return loss(generator, progress)

    fit("resumed", [resumed], counts, SCHEDULE, tmp_path / "killed")
    assert went_on == 60 - 36
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    for name in ("whole", "killed"):
        lines = (tmp_path / name / "curve.csv").read_text().splitlines()
        assert [line.partition(",")[0] for line in lines] == ["50"]
    with pytest.raises(ValueError, match="is of another run"):
        fit("other", [resumed], loss, SCHEDULE, tmp_path / "killed", seed=1)
    assert not list(tmp_path.rglob("*.part"))


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=1000, rate=1.0, warmup=100, hold=0.3)
    assert schedule.rate_at(0) == pytest.approx(0.01)
    assert schedule.rate_at(200) == pytest.approx(1.0)
    assert schedule.rate_at(999) == pytest.approx(0.02, abs=1e-3)
