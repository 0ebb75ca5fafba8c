"""A training as a folder: the trained policy's checkpoint, its learning curve, and the record of what made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.report import versions
from noma_semcom_agents.schemes import AllSelection, RandomSelection
from noma_semcom_env import Scenario, load_table
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import IMPPOConfig
    from noma_semcom_agents.training import Training

RECORD: Final = "run.json"
EVALUATION_SEED: Final = 2_000_000
"""Evaluation episode i is drawn from this plus i."""

SETTINGS: Final = (
    "lr critic_lr gamma lambda_ train_batch_size_per_learner minibatch_size num_epochs clip_param use_kl_loss "
    "entropy_coeff vf_loss_coeff vf_clip_param grad_clip grad_clip_by num_envs_per_env_runner num_env_runners seed"
).split()


def contenders(policy: Policy) -> list[Contender]:
    """A trained policy, the schemes, and the policy under the near-first order.

    Location-Decoding is here the policy as it was trained, under the optimal order, and evaluated under the other.
    """
    return [
        Contender(policy),
        Contender(AllSelection(), {"prune": False}),
        Contender(RandomSelection(), {"prune": False}),
        Contender(policy, {"transmission": "distance"}, "Location-Decoding"),
    ]


def train_policy(
    folder: Path,
    seed: int,
    steps: int,
    seconds: float | None,
    knobs: Knobs,
    validation_images: str,
    progress: bool = True,
) -> Training:
    """Train IM-PPO, and leave ``run.json`` with the full configuration beside the checkpoint.

    Args:
        folder: For the checkpoint, the learning curve and the record.
        seed: Of the training.
        steps: Environment steps.
        seconds: Ends the training earlier; None sets no limit.
        knobs: Scenario fields that differ from the default.
        validation_images: Image set of the regret that is shown.
        progress: Whether to draw a progress line.

    Raises:
        TypeError: If a knob is an object rather than a name, which no record can hold.
    """
    from noma_semcom_agents import IMPPOConfig, train
    from noma_semcom_agents.training import Validation, anneal

    scenario = settle(Scenario.of(None, knobs))
    record: dict[str, Any] = {"scenario": json.loads(scenario.to_json()), "seed": seed}
    config = IMPPOConfig().environment(env_config=dict(knobs)).debugging(seed=spread(seed))
    training = train(config, folder, steps, seconds, Validation(knobs, validation_images), progress)
    last = training.curve[-1]
    record |= {
        "labels": list(load_table(scenario.images).labels),
        "training": settings(anneal(config, steps)) | {"steps": steps, "seconds": seconds},
        "validation": {"images": validation_images, "episodes": training.validation.episodes},
        "ended": {"steps": last.steps, "seconds": last.seconds, "validation_regret": last.regret},
        "versions": versions(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return training


def spread(seed: int) -> int:
    """A seed far from those of other trainings.

    Sub-environment i of seed s is drawn from s + i, so trainings with seeds in a row would share most episodes.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)


def settings(config: IMPPOConfig) -> dict[str, Any]:
    """The algorithm's settings that decide what is learned."""
    values = {name.rstrip("_"): getattr(config, name) for name in SETTINGS}
    # JSON knows no infinity; a clip at infinity is none.
    return {k: None if v == float("inf") else v for k, v in values.items()} | {"model": dict(config.model_config)}
