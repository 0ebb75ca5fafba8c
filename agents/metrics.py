"""What the agents' trainings report besides RLlib's own metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback

from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.search import NotSearchable


class TransmissionMetrics(RLlibCallback):
    """Logs ``step_reward``, ``lpips``, ``latency_s``, ``selection_share`` and ``oracle_regret``.

    Means over the steps just sampled. The regret is that of the acting policy, exploration included, in the first
    ``regret_steps`` of them (a setting of the configuration): its mean objective above the oracle's, as a share of the
    oracle's. The share needs an environment of our own, the regret one that the oracle knows; else they stay away.
    """

    def on_sample_end(self, *, env_runner: Any, metrics_logger: Any, samples: Sequence[Any], **kwargs: Any) -> None:
        """Collect the terms that the environment reported in ``info``."""
        steps = [step for episode in samples for step in _steps_of(episode)]
        if not steps:
            return
        infos = [info for _, info in steps]
        values = {
            "step_reward": np.mean([reward for reward, _ in steps]),
            "lpips": np.mean([info["lpips"] for info in infos]),
            "latency_s": np.mean([info["latency_s"] for info in infos]),
        }
        # Gymnasium's own vectorization (sync, async) hides the images' features, so these stay unknown there.
        dynamics = dynamics_of(env_runner.env)
        if dynamics is not None:
            images = np.array([info["privileged"]["image_index"] for info in infos])
            selected = np.array([info["selection"] for info in infos])
            values["selection_share"] = selected.sum() / dynamics.bank.exists[images].sum()
            regret = self._regret(dynamics, infos[: env_runner.config.regret_steps])
            if regret is not None:
                values["oracle_regret"] = regret
        for name, value in values.items():
            metrics_logger.log_value(name, float(value), reduce="mean", window=1)

    def _regret(self, dynamics: Any, infos: Sequence[Mapping[str, Any]]) -> float | None:
        """Regret of the steps with these infos; None if there are none, or no oracle knows the environment."""
        if not hasattr(self, "_oracle"):
            self._oracle = make_oracle(dynamics)
        if self._oracle is None or not infos:
            return None
        faced = {name: np.array([info["privileged"][name] for info in infos]) for name in Oracle.READS}
        lpips, latency_s = (np.array([info[name] for info in infos]) for name in ("lpips", "latency_s"))
        late = np.array([info["violations"] for info in infos]) > 0
        best = self._oracle.solve(faced).objective.mean()
        reached = self._oracle.value(lpips, np.where(late, np.inf, latency_s)).mean()
        return float(reached / best - 1.0) if best else None


def make_oracle(dynamics: Any) -> Oracle | None:
    """The oracle over unpruned features of an environment; None if its recovery or its scenario allows none."""
    recovery = dynamics.recovery
    if not hasattr(recovery, "mean") or not getattr(recovery, "is_full", True):
        return None
    try:
        return Oracle(dynamics.scenario, recovery.mean, dynamics.bank)
    except NotSearchable:
        return None


def dynamics_of(env: Any) -> Any:
    """The dynamics of a runner's environment, single or vectorized or multi-agent; None if it is none of ours."""
    one = env.unwrapped
    first = getattr(one, "envs", [one])[0]
    return getattr(one, "dynamics", getattr(getattr(first, "parallel_env", None), "dynamics", None))


def _steps_of(episode: Any) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Reward and info of every step of an episode; of several agents their mean reward, and what they share."""
    if not hasattr(episode, "agent_episodes"):
        yield from zip(episode.get_rewards(), episode.get_infos()[1:], strict=True)
        return
    agents = list(episode.agent_episodes.values())
    for step in range(len(agents[0])):
        rewards = [agent.get_rewards(step) for agent in agents]
        yield float(np.mean(rewards)), agents[0].get_infos(step + 1)["common"]
