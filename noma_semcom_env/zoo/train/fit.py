"""The training loop that every bundled model shares: AdamW, cosine rate, moving average, progress, resume."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from noma_semcom_env.zoo.loading import CARD_FILE

_TRAINING: Final = (
    *("data", "scenes", "snr_db", "roi_symbols", "cbr", "steps", "autoencoder_steps", "decoder_steps", "batch"),
    *("seconds", "began_from"),
)
"""Entries of a card that tell of a training and not of what came out of it."""

LossFunction = Callable[[torch.Generator, float], dict[str, torch.Tensor]]
"""(generator, progress in [0, 1]) -> named scalar losses; ``"loss"`` is the one to minimize."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Number of optimizer steps.
        rate: Highest learning rate, reached after ``warmup`` steps and held for ``hold`` of the run; then half a cosine
            down to 2 %.
        warmup: Steps of linear rise.
        hold: Share of the run before the rate falls.
        averaging: Decay of the exponential moving average of the weights.
        weight_decay: AdamW's.
        checkpoint_s: Seconds between checkpoints.
        limit_s: Seconds after which training must be over, earlier parts of a resumed run included. Where it comes
            before ``steps``, the rate falls by the clock instead, and the run is no function of its seed any more.
    """

    steps: int
    rate: float
    warmup: int = 100
    hold: float = 0.3
    averaging: float = 0.998
    weight_decay: float = 1e-3
    checkpoint_s: float = 120.0
    limit_s: float = field(default=math.inf, repr=False)

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done before a step, by steps or by the clock, whichever is further."""
        return min(1.0, max(step / self.steps, seconds / self.limit_s))

    def rate_at(self, step: int, progress: float | None = None) -> float:
        """Learning rate of a step; ``progress`` is that of the steps unless given."""
        if progress is None:
            progress = self.progress(step, 0.0)
        fall = max(0.0, (progress - self.hold) / (1 - self.hold))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.49 * (1 + math.cos(math.pi * fall)) + 0.02)


def fit(
    name: str,
    modules: list[nn.Module],
    loss: LossFunction,
    schedule: Schedule,
    folder: Path,
    seed: int = 0,
    data: str = "",
) -> float:
    """Train modules in place; on return they hold the averaged weights.

    The run is a function of the seed and the step alone, and a checkpoint in ``folder`` is taken up if there is one of
    the same schedule, seed and data. On a GPU the loop waits for the device only where it logs and saves, as long as
    the loss does not.

    Args:
        name: Shown in the progress bar.
        modules: Modules whose parameters are trained, on any device.
        loss: Draws a batch and returns its losses, given a generator on the CPU.
        schedule: Length and rates.
        folder: Where ``checkpoint.safetensors`` and ``curve.csv`` (step, seconds, losses) go.
        seed: Seed of every random draw.
        data: Names what is trained on.

    Returns:
        Seconds of training, earlier parts of a resumed run included.

    Raises:
        ValueError: If the checkpoint is of another run.
        FloatingPointError: If a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    on_gpu = all(p.is_cuda for p in parameters)
    optimizer = torch.optim.AdamW(
        parameters,
        lr=schedule.rate,
        betas=(0.9, 0.99),
        weight_decay=schedule.weight_decay,
        fused=on_gpu,
        foreach=not on_gpu,
    )
    checkpoint = folder / "checkpoint.safetensors"
    run = f"{schedule}, seed={seed}, data={data!r}"
    start, spent = _load(checkpoint, run, parameters, average, optimizer) if checkpoint.exists() else (0, 0.0)
    _cut(folder / "curve.csv", start)
    began = saved = time.monotonic()
    recent: list[dict[str, torch.Tensor]] = []
    columns = (
        TextColumn(f"{name} {{task.fields[losses]}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=0.2) as bar, (folder / "curve.csv").open("a", newline="") as log:
        task = bar.add_task(name, total=schedule.steps, completed=start, losses="")
        writer = csv.writer(log)
        for step in range(start, schedule.steps):
            progress = schedule.progress(step, spent + time.monotonic() - began)
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate_at(step, progress)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            losses = loss(generator, progress)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
            optimizer.step()
            decay = min(schedule.averaging, (step + 1) / (step + 20))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
            recent.append({key: value.detach() for key, value in losses.items()})
            over = step + 1 == schedule.steps or progress >= 1
            if (step + 1) % 50 == 0 or over:
                means = {key: float(torch.stack([r[key] for r in recent]).double().mean()) for key in recent[0]}
                if not all(map(math.isfinite, means.values())):
                    raise FloatingPointError(f"{name} diverged before step {step + 1}: {means}; lower the rate")
                writer.writerow(
                    [step + 1, round(spent + time.monotonic() - began, 1), *(f"{v:.5f}" for v in means.values())]
                )
                log.flush()
                recent.clear()
                bar.update(task, completed=step + 1, losses=" ".join(f"{k} {v:.4f}" for k, v in means.items()))
            if time.monotonic() - saved > schedule.checkpoint_s or over:
                facts = {"run": run, "step": str(step + 1), "seconds": str(spent + time.monotonic() - began)}
                _save(checkpoint, facts, parameters, average, optimizer)
                saved = time.monotonic()
            if over:
                break
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=True):
            parameter.copy_(value)
    return spent + time.monotonic() - began


def steps_done(folder: Path) -> int:
    """Steps of the run whose checkpoint is in ``folder``, fewer than scheduled if its time was limited."""
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        return int(file.metadata()["step"])


def earlier_training(folder: Path) -> dict[str, object]:
    """What the card of a model says of its training, for the card of one that goes on from it."""
    card = json.loads((folder / CARD_FILE).read_text())
    return {name: card[name] for name in _TRAINING if name in card}


def _save(
    path: Path,
    facts: dict[str, str],
    parameters: list[nn.Parameter],
    average: list[torch.Tensor],
    optimizer: torch.optim.AdamW,
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for i, (parameter, mean) in enumerate(zip(parameters, average, strict=True)):
        state = optimizer.state[parameter]
        tensors |= {f"{i}.value": parameter.detach(), f"{i}.average": mean}
        tensors |= {f"{i}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq")}
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, part, facts)
    os.replace(part, path)


def _load(
    path: Path, run: str, parameters: list[nn.Parameter], average: list[torch.Tensor], optimizer: torch.optim.AdamW
) -> tuple[int, float]:
    with safe_open(path, "pt") as file, torch.no_grad():
        metadata = file.metadata()
        if metadata["run"] != run:
            raise ValueError(
                f"{path} is of another run ({metadata['run']}) than asked for ({run}); repeat that one's arguments, or "
                "delete the checkpoint to start anew"
            )
        step = int(metadata["step"])
        for i, (parameter, mean) in enumerate(zip(parameters, average, strict=True)):
            parameter.copy_(file.get_tensor(f"{i}.value"))
            mean.copy_(file.get_tensor(f"{i}.average"))
            fused = bool(optimizer.defaults["fused"])
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step), device=parameter.device if fused else "cpu"),
                **{
                    key: torch.empty_like(parameter).copy_(file.get_tensor(f"{i}.{key}"))
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
    return step, float(metadata["seconds"])


def _cut(curve: Path, step: int) -> None:
    """Drop the lines of a learning curve after ``step``, which will be written again."""
    if curve.exists():
        lines = [line for line in curve.read_text().splitlines() if int(line.partition(",")[0]) <= step]
        curve.write_text("".join(f"{line}\n" for line in lines))
