"""One transmission of pictures of the user's own, end to end: what ``noma-semcom transmit`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs
from noma_semcom_agents.pictures import Step, capture_step, draw_transmission
from noma_semcom_agents.provenance import versions
from noma_semcom_env import Scenario
from noma_semcom_env.recovery.live import LiveRecovery
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.scenes.files import read_square
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.zoo.presets import load_preset, settle

SEEDS = (0, 1)
"""Diffusion seeds that LPIPS is averaged over."""


def transmit(
    paths: Sequence[Path], contender: Contender, output: Path, seed: int = 0, knobs: Knobs | None = None
) -> list[Path]:
    """Extract, send, recover and score pictures, one a user; draw it and write it down.

    Args:
        paths: K picture files; each is cut to a square and resized to what the models take.
        contender: Chooses what is sent.
        output: Folder for ``transmission.png`` and ``transmission.json``.
        seed: Of positions and channel.
        knobs: Scenario fields that differ from the default; users and images are set here.

    Returns:
        The files.

    Raises:
        ValueError: If a file is no picture.
    """
    names = tuple(f"{i + 1}:{path.name}" for i, path in enumerate(paths))
    plain = {**(knobs or {}), **contender.knobs, "num_users": len(paths), "image_ids": names}
    scenario = settle(Scenario.of(None, plain))
    preset = load_preset(scenario.models)
    pipeline = load_recovery(scenario.models)
    images = np.stack([read_square(path, pipeline.resolution) for path in paths])
    features = load_extractor(scenario.models).extract(images, names)
    live = LiveRecovery(features, images, preset.labels, SEEDS, models=scenario.models, lpips_net=scenario.lpips_net)
    step = capture_step(contender, {**plain, "recovery": live}, seed)
    recovered = pipeline.recover(step.features, step.selection, SEEDS[:1])[:, 0]
    output.mkdir(parents=True, exist_ok=True)
    picture, report = output / "transmission.png", output / "transmission.json"
    draw_transmission(step, recovered, picture, contender.name)
    content = {
        **describe(step, [str(path) for path in paths]),
        "policy": contender.name,
        "seed": seed,
        "diffusion_seeds": list(SEEDS),
        "scenario": {**json.loads(scenario.to_json()), "recovery": "live", "images": None, "image_ids": None},
        "versions": versions(),
    }
    report.write_text(json.dumps(content, indent=2) + "\n")
    return [picture, report]


def describe(step: Step, names: Sequence[str]) -> dict[str, Any]:
    """A transmission in numbers and words; latencies in s, rates in bit/s, sizes in bits.

    Args:
        step: The transmission.
        names: K names of the pictures.
    """
    users = []
    for user, (one, name) in enumerate(zip(step.features, names, strict=True)):
        rate, demand = float(step.rate_bps[user]), int(step.demand_bits[user])
        rows = zip(one.size_bits, one.importance, step.selection[user], step.available[user], strict=False)
        texts = [*one.mask_labels, *one.phrases]
        kinds = ["mask"] * len(one.mask_labels) + ["phrase"] * len(one.phrases)
        users.append(
            {
                "picture": name,
                "caption": one.caption,
                "demand_bits": demand,
                "rate_bps": rate,
                "latency_s": demand / rate if rate > 0 else None if demand else 0.0,
                "lpips": float(step.lpips[user]),
                "features": [
                    {
                        "kind": kind,
                        "text": text,
                        "size_bits": int(bits),
                        "importance": float(importance),
                        "sent": bool(sent),
                        "available": bool(available),
                    }
                    for kind, text, (bits, importance, sent, available) in zip(kinds, texts, rows, strict=True)
                ],
            }
        )
    return {
        "users": users,
        "decoding_order": [int(user) for user in step.decoding_order],
        "latency_s": float(step.latency_s),
        "reward": float(step.reward),
    }
