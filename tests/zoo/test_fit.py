"""The training loop: the same run whether or not it was interrupted, and one that keeps its time."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from noma_semcom_env.zoo.train.fit import LossFunction, Schedule, fit, steps_done

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
    assert steps_done(tmp_path / "killed") == 36
    resumed, loss = problem()
    went_on = 0

    def counts(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        nonlocal went_on
        went_on += 1
        return loss(generator, progress)

    fit("resumed", [resumed], counts, SCHEDULE, tmp_path / "killed")
    assert went_on == 60 - 36
    assert steps_done(tmp_path / "killed") == 60
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    for name in ("whole", "killed"):
        lines = (tmp_path / name / "curve.csv").read_text().splitlines()
        assert [line.partition(",")[0] for line in lines] == ["50", "60"]
    with pytest.raises(ValueError, match="is of another run"):
        fit("other", [resumed], loss, SCHEDULE, tmp_path / "killed", seed=1)
    assert not list(tmp_path.rglob("*.part"))


def test_the_curve_holds_means_of_the_losses(tmp_path: Path) -> None:
    model, loss = problem()
    seen: list[float] = []

    def spy(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        losses = loss(generator, progress)
        seen.append(losses["loss"].item())
        return losses | {"progress": torch.tensor(progress)}

    fit("curve", [model], spy, SCHEDULE, tmp_path)
    rows = [[float(cell) for cell in line.split(",")] for line in (tmp_path / "curve.csv").read_text().splitlines()]
    for row, (start, stop) in zip(rows, ((0, 50), (50, 60)), strict=True):
        assert row[2] == pytest.approx(sum(seen[start:stop]) / (stop - start), abs=1e-5)
        assert row[3] == pytest.approx((start + stop - 1) / 2 / 60, abs=1e-5)


def test_a_run_with_a_limit_ends_in_time_at_the_lowest_rate(tmp_path: Path) -> None:
    model, loss = problem()
    schedule = Schedule(steps=10**9, rate=1e-2, warmup=1, limit_s=0.5)
    shares: list[float] = []

    def spy(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        shares.append(progress)
        time.sleep(0.01)
        return loss(generator, progress)

    seconds = fit("limited", [model], spy, schedule, tmp_path)
    assert seconds >= 0.5
    assert shares == sorted(shares)
    assert shares[-2] < 1 == shares[-1]
    assert schedule.rate_at(len(shares) - 1, shares[-1]) == pytest.approx(0.02 * 1e-2)
    assert steps_done(tmp_path) == len(shares)
    assert "limit" not in repr(schedule)


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    model, loss = problem()

    def diverges(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        return {"loss": loss(generator, progress)["loss"] * (math.inf if progress > 0.5 else 1)}

    with pytest.raises(FloatingPointError, match="run diverged before step 50"):
        fit("run", [model], diverges, SCHEDULE, tmp_path)


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=1000, rate=1.0, warmup=100, hold=0.3)
    assert schedule.rate_at(0) == pytest.approx(0.01)
    assert schedule.rate_at(200) == pytest.approx(1.0)
    assert schedule.rate_at(999) == pytest.approx(0.02, abs=1e-3)
    assert schedule.rate_at(200, 1.0) == pytest.approx(0.02)
    assert schedule.progress(250, 0.0) == 0.25
    assert Schedule(1000, 1.0, limit_s=10.0).progress(250, 6.0) == 0.6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_is_resumed_on_the_gpu(tmp_path: Path) -> None:
    model = nn.Linear(4, 1).cuda()

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        return {"loss": model(torch.randn(16, 4, generator=generator).cuda()).square().mean()}

    def dies(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        if progress > 0.5:
            raise KeyboardInterrupt
        return loss(generator, progress)

    with pytest.raises(KeyboardInterrupt):
        fit("killed", [model], dies, SCHEDULE, tmp_path)
    fit("resumed", [model], loss, SCHEDULE, tmp_path)
    assert steps_done(tmp_path) == 60
