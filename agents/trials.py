"""One trial of a sweep: an agent that trains as ``noma-semcom train`` would, and reports what the sweep goes by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noma_semcom_agents.roster import find_agent
from noma_semcom_agents.runs import Request
from noma_semcom_agents.sweep_plan import Plan, split

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import AgentConfig

SAMPLED = {"reward": "step_reward", "lpips": "lpips", "latency_s": "latency_s", "selection_share": "selection_share"}
"""What a trial reports of its sampling, and what the agents' callbacks call it."""


def request_of(plan: Plan, values: Mapping[str, Any]) -> Request:
    """What ``noma-semcom train`` would be asked for to train one trial.

    Args:
        plan: The sweep.
        values: What was drawn for the trial, by the names of ``plan.search``.
    """
    knobs, settings, seed = split({name: values[name] for name in plan.search})
    return Request(
        agent=plan.agent,
        seed=plan.seed if seed is None else int(seed),
        steps=plan.steps,
        knobs={**plan.scenario, **_plain(knobs)},
        settings={**plan.settings, **_plain(settings)},
        validation=plan.validation,
        num_env_runners=plan.num_env_runners,
    )


def trial_class(plan: Plan) -> type:
    """What Tune runs: the agent's algorithm, made from the plan and a trial's values as ``train`` makes it.

    It reports ``steps``, ``seconds``, ``validation_reward`` and ``regret`` besides what was sampled, every
    ``report_steps``. Its learning rates fall over ``plan.steps`` as they do in ``train``; under PBT a changed rate
    falls from its new value.
    """
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.training import Validation, anneal, knobs_of

    agent = find_agent(plan.agent)

    def configured(values: Mapping[str, Any]) -> AgentConfig:
        config = request_of(plan, values).configure()
        config.reporting(min_sample_timesteps_per_iteration=plan.report_steps)
        return anneal(config, plan.steps)

    algorithm: Any = agent.make_config().algo_class

    class Trial(algorithm):
        """A trial."""

        def __init__(self, config: Mapping[str, Any], **kwargs: Any) -> None:
            request = request_of(plan, config)
            self.searched = {name: config[name] for name in plan.search}
            made = configured(config)
            self.validation = Validation({**knobs_of(str(made.env)), **request.knobs}, plan.validation)
            super().__init__(made, **kwargs)

        @classmethod
        def default_resource_request(cls, config: Mapping[str, Any]) -> Any:
            return algorithm.default_resource_request(configured(config))

        def step(self) -> dict[str, Any]:
            results = super().step()
            reward = self.validation.reward(LearnedPolicy(self.get_module(), agent.title))
            sampled = results["env_runners"]
            own = {name: float(sampled.get(key, np.nan)) for name, key in SAMPLED.items()}
            own |= {"validation_reward": reward, "regret": float(self.validation.regret(reward))}
            steps = int(sampled["num_env_steps_sampled_lifetime"])
            return {**results, **own, "steps": steps, "searched": self.searched}

    Trial.__name__ = f"{agent.title} trial"
    return Trial


def curve_rows(progress: Any) -> list[dict[str, Any]]:
    """A trial's reports as rows of a learning curve, rising in steps: what was trained again after a kill counts once.

    Args:
        progress: Data frame that Tune made of the trial's reports.
    """
    columns = ["steps", "reward", "validation_reward", "regret", "lpips", "latency_s", "selection_share"]
    rows: list[dict[str, Any]] = []
    for number in range(len(progress)):
        row = {name: progress[name].iloc[number].item() for name in columns}
        rows = [one for one in rows if one["steps"] < row["steps"]]
        rows.append({"steps": row.pop("steps"), "seconds": progress["time_total_s"].iloc[number].item(), **row})
    return rows


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy's numbers, which Tune draws, as Python's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def newest_checkpoint(result: Any) -> Path | None:
    """The folder of a trial's last checkpoint, if it has one here."""
    checkpoint = result.checkpoint
    return None if checkpoint is None or not Path(checkpoint.path).is_dir() else Path(checkpoint.path)
