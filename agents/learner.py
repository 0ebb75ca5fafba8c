"""PPO's learner with separate actor and critic rates, and with three ways of giving credit.

``credit="step"`` is PPO as it stands: one advantage a step, reward less the critic's value of the situation, for the
whole action at once. ``credit="feature"`` gives each factor of the action its own: every bit of the selection, and in
the model-free form every user's beam and priority. With Q(s, a) the critic's value of a selection and p_f the
probability that bit f is 1, its advantage is

    A_f = r - [(1 - p_f) Q(s, a with a_f = 0) + p_f Q(s, a with a_f = 1)],

a counterfactual baseline (Foerster et al. 2018). It does not depend on a_f, so the gradient stays unbiased however
wrong Q is; and where Q is right, the noise of the other bits is gone. Beams and priorities have the baseline Q(s, a),
which they do not enter. The clipped objective is then PPO's, factor by factor. This needs rewards that depend on the
step's own action alone, hence gamma = 0.

``credit="model"`` is that, with Q(s, a) = W(s, a) - c(s, a), where the cost c of the latency is not learned but given
by the model that the environment solves (:mod:`~noma_semcom_agents.known_latency`). The critic W is left with what
pictures are worth, a mean over users of which each depends on its own features alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import AddOneTsToEpisodesAndTruncate, GeneralAdvantageEstimation
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.torch_utils import explained_variance
from torch import Tensor

from noma_semcom_agents.known_latency import KnownLatency
from noma_semcom_agents.modules import selection_of
from noma_semcom_agents.reading import read

CREDITS = ("auto", "feature", "model", "step")


class ActorCriticLearner(PPOTorchLearner):
    """PPO with one Adam for the actor (``lr``) and one for the critic (``critic_lr``), and :data:`CREDITS`."""

    def build(self) -> None:
        """Put the connectors in place that compute advantages."""
        super().build()
        # Telling what "auto" comes to opens an environment, too much for every loss.
        self._credit = self.config.resolved_credit
        pipeline = self._learner_connector
        if pipeline is None or not self.config.add_default_connectors_to_learner_pipeline:
            return
        pipeline.remove(GeneralAdvantageEstimation)
        if self._credit == "step":
            pipeline.append(StepCredit(gamma=self.config.gamma, lambda_=self.config.lambda_))
            return
        # No value is bootstrapped, so no step need be added for it.
        pipeline.remove(AddOneTsToEpisodesAndTruncate)
        known = KnownLatency(self.config.scenario) if self._credit == "model" else None
        pipeline.append(FeatureCredit(latency=known))

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the two optimizers of a module."""
        module = self.module[module_id].unwrapped()
        critic_lr = config.lr if config.critic_lr is None else config.critic_lr
        for name, part, rate in (("actor", module.actor, config.lr), ("critic", module.critic, critic_lr)):
            parameters = list(part.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters),
                params=parameters,
                lr_or_lr_schedule=rate,
            )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """PPO's loss; unless ``credit="step"`` its clipped objective is a sum over factors of the action."""
        if self._credit == "step":
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        module = self.module[module_id].unwrapped()
        make = module.get_train_action_dist_cls().from_logits
        now, then = make(fwd_out[Columns.ACTION_DIST_INPUTS]), make(batch[Columns.ACTION_DIST_INPUTS])
        actions, advantage = batch[Columns.ACTIONS], batch[Postprocessing.ADVANTAGES]
        ratio = torch.exp(now.factor_logp(actions) - then.factor_logp(actions))
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        policy_loss = -torch.minimum(advantage * ratio, advantage * clipped).sum(-1).mean()
        value, target = module.compute_values(batch), batch[Postprocessing.VALUE_TARGETS]
        value_loss = (((value - target) / module.critic.scale) ** 2).clamp(0.0, config.vf_clip_param).mean()
        # Beams and priorities explore by deviations of their own; a bonus would only blur the beams' nulls.
        entropy = now.bits.entropy().mean()
        entropy_coeff = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        loss = policy_loss + config.vf_loss_coeff * value_loss - entropy_coeff * entropy
        divergence = torch.zeros(())
        if config.use_kl_loss:
            divergence = then.kl(now).mean()
            loss = loss + self.curr_kl_coeffs_per_module[module_id] * divergence
        self.metrics.log_dict(
            {
                POLICY_LOSS_KEY: policy_loss,
                VF_LOSS_KEY: value_loss,
                LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained_variance(target, value),
                ENTROPY_KEY: entropy,
                LEARNER_RESULTS_KL_KEY: divergence,
            },
            key=module_id,
            window=1,
        )
        return loss


class StepCredit(GeneralAdvantageEstimation):
    """Advantages of steps, standardized over real steps alone.

    RLlib adds a step to each piece of an episode for the value to bootstrap from, and standardizes over these as well:
    with gamma = 0 their advantages, 0 less the value, shift all others. Here they are left out of that and of the
    batch.
    """

    def __call__(self, *, rl_module: Any, episodes: Any, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add advantages and value targets, drop the added steps, and shuffle."""
        for module_id, part in batch.items():
            rewards = part[Columns.REWARDS][part[Columns.LOSS_MASK]]
            spread = 1.0 / (1.0 - self.gamma) if self.gamma < 1.0 else 1.0
            rl_module[module_id].unwrapped().critic.fit_scale(rewards * spread)
        batch = super().__call__(rl_module=rl_module, episodes=episodes, batch=batch, **kwargs)
        for module_id, part in batch.items():
            rows = torch.nonzero(part.pop(Columns.LOSS_MASK)).squeeze(-1)
            kept = _rows_of(part, rows[torch.randperm(len(rows), device=rows.device)])
            advantage = kept[Postprocessing.ADVANTAGES]
            kept[Postprocessing.ADVANTAGES] = (advantage - advantage.mean()) / advantage.std().clamp_min(1e-6)
            batch[module_id] = kept
        return batch


class FeatureCredit(ConnectorV2):
    """Advantages of factors, (B, factors), 0 for forbidden bits; see the module's text.

    Args:
        latency: What the link costs, where that is known.
        **kwargs: Of RLlib's connectors.
    """

    def __init__(self, *, latency: KnownLatency | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._latency = latency

    @torch.no_grad()
    def __call__(self, *, rl_module: Any, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add advantages and value targets, and shuffle."""
        for module_id, part in batch.items():
            module = rl_module[module_id].unwrapped()
            reward = part[Columns.REWARDS].float()
            law = module.get_train_action_dist_cls().from_logits(part[Columns.ACTION_DIST_INPUTS])
            observation = read(part[Columns.OBS], module.settings)
            selection = selection_of(part[Columns.ACTIONS])
            target = reward
            if self._latency is not None:
                cost, *costs = self._latency.costs(observation, selection)
                target = reward + cost
            module.critic.fit_scale(target)
            without, within = module.critic.without_and_with(observation, selection)
            if self._latency is not None:
                without, within = without - costs[0], within - costs[1]
            allowed = observation["action_mask"] > 0
            advantage = counterfactual_advantage(reward, without, within, law.bits.chance)
            if module.settings["beams"]:
                # Both values hold for the selection as it is, wherever its bit agrees.
                own = torch.where(selection[:, 0] > 0, within[:, 0], without[:, 0])
                factors = 2 * module.settings["priorities"]
                advantage = torch.cat([advantage, (reward - own)[:, None].expand(-1, factors)], -1)
                allowed = torch.cat([allowed, torch.ones_like(allowed[:, :1]).expand(-1, factors)], -1)
            part[Postprocessing.ADVANTAGES] = _standardized(advantage, allowed)
            part[Postprocessing.VALUE_TARGETS] = target
            batch[module_id] = _rows_of(part, torch.randperm(len(reward), device=reward.device))
        return batch


def counterfactual_advantage(reward: Tensor, without: Tensor, within: Tensor, chance: Tensor) -> Tensor:
    """Reward less what the critic expects if a bit is drawn anew while the others stay, (B, n).

    Args:
        reward: (B,).
        without: (B, n) the critic's value with the bit 0.
        within: (B, n) the critic's value with the bit 1.
        chance: (B, n) or (n,) probability of a 1.
    """
    return reward[:, None] - without - chance * (within - without)


def _standardized(advantage: Tensor, allowed: Tensor) -> Tensor:
    """Advantages (B, factors) with mean 0 and deviation 1 over those that are ``allowed``, and 0 elsewhere."""
    counted = advantage[allowed]
    return (advantage - counted.mean()) / counted.std().clamp_min(1e-8) * allowed


def _rows_of(part: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """The columns of a batch at some rows: RLlib's first pass over a batch would go episode by episode."""

    def taken(column: Any) -> Any:
        if isinstance(column, Mapping):
            return {name: taken(one) for name, one in column.items()}
        return column[rows] if torch.is_tensor(column) else column

    return {name: taken(column) for name, column in part.items()}
