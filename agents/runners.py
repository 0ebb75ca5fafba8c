"""RLlib's environment runners, with seeds that do not overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner


def environment_seed(seed: int, worker: int, evaluates: bool, steps: int) -> int:
    """The seed of a runner's first sub-environment.

    RLlib seeds runner w with seed + w, and a vector environment its sub-environment i with its own seed + i, so that
    runner 1 would meet all but one of runner 0's episodes.

    Args:
        seed: Of the training.
        worker: Index of the runner.
        evaluates: Whether it samples for evaluation.
        steps: Steps that it has sampled before. After a restored checkpoint new episodes follow, not the first again.
    """
    return int(np.random.SeedSequence([seed, worker, evaluates, steps]).generate_state(1)[0] >> 1)


class _SpreadSeeds:
    """Resets environments with :func:`environment_seed` wherever RLlib gives a seed."""

    def _try_env_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        own: Any = self
        if seed is not None:
            config = own.config
            place = (own.worker_index or 0, config.in_evaluation, own.num_env_steps_sampled_lifetime)
            seed = environment_seed(config.seed, *place)
        return super()._try_env_reset(seed=seed, options=options)  # type: ignore[misc]


class SpreadSingleAgentRunner(_SpreadSeeds, SingleAgentEnvRunner):
    """Runner of the single and vectorized environments."""


class SpreadMultiAgentRunner(_SpreadSeeds, MultiAgentEnvRunner):
    """Runner of the multi-agent form."""
