"""References of the Mixture of Semantics: fixed alpha, Table I of the paper, a fitted threshold rule, and the oracle.

A rule says how many symbols a token the text gets; what it knows it reads off the observation, as an agent would. Rules
leave the bandwidth ratio at its most and the margin at 0, where the agent could choose them. The oracle reads
``info["privileged"]``.

What the text has beyond a whole number t of symbols a token it leaves idle, so that the oracle tries the least alpha
for each t of the codec, and the most that there is, which leaves the region nothing. That is the best alpha wherever
PSNR-ROI rises with the symbols of the region. In the bundled tables, of a trained codec and one seed of noise, it falls
along 2 to 4 % of the steps of their grid, and there it can pay to leave symbols idle: a grid of 1501 alphas beats the
oracle in at most 4 % of the steps, by at most 0.003 and by 2e-5 on average, of rewards of 0.7 to 0.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import gymnasium as gym
import numpy as np

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_env import MixtureTable
from noma_semcom_env.mixture.allocation import PAPER_TOKENS, Criterion, FixedRule, PaperRule, TokenRule, fit_thresholds
from noma_semcom_env.mixture.budget import fade_quantiles_db, total_symbols
from noma_semcom_env.mixture_dynamics import CBR_RANGE, SNR_RANGE_DB, MixtureDynamics
from noma_semcom_env.mixture_parts import MOST_TOKENS

ENVIRONMENT: Final = "MixtureOfSemantics-v0"
TERMS: Final = ("psnr_roi_db", "clip_roni", "token_error", "undecodable", "alpha", "cbr", "mask_received")
"""What is recorded of every step besides the reward."""

_QUARTER: Final = 0.25
"""Of a symbol, added so that rounding to symbols cannot lose one."""

_OBSERVED_FADES: Final = 16


class MixturePolicy(Protocol):
    """Sets the controls of mixtures.

    Attributes:
        name: How tables call it.
    """

    name: str

    def act(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> np.ndarray:
        """Choose the actions of B steps, (B, controls) float32 in [-1, 1]."""
        ...


class RulePolicy:
    """Follows a rule.

    Args:
        rule: A fixed alpha, or symbols a token by SNR.
        dynamics: Of the environment, which knows what can be sent.
        name: How tables call it.
        tokens: ``"own"`` counts a caption's own tokens, ``"padded"`` the paper's 24.
    """

    def __init__(
        self,
        rule: FixedRule | TokenRule,
        dynamics: MixtureDynamics,
        name: str,
        tokens: Literal["own", "padded"] = "own",
    ) -> None:
        self.rule, self.name = rule, name
        self._dynamics, self._padded = dynamics, tokens == "padded"

    def act(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> np.ndarray:
        """(B, controls) float32."""
        cbr = np.exp(_unscaled(observation["cbr"][:, 0], *np.log(CBR_RANGE)))
        total = total_symbols(cbr, self._dynamics.items.source_samples)
        if isinstance(self.rule, FixedRule):
            alpha = np.full(len(total), self.rule.value)
        else:
            tokens = np.rint(np.exp(_unscaled(observation["caption_tokens"][:, 0], 0.0, np.log(MOST_TOKENS))))
            snr_db = np.round(_unscaled(observation["snr"][:, 0], *SNR_RANGE_DB), 5)
            each = np.ceil(self.rule.symbols_at(snr_db) - 1e-9)
            alpha = share_of(each * (PAPER_TOKENS if self._padded else tokens), total)
        return self._dynamics.action_of(alpha, np.ones_like(alpha), np.zeros(len(alpha)))


class MixtureOracle:
    """The best choice of every step, but for alphas that leave symbols idle, see the module's first lines.

    Args:
        dynamics: Of the environment.
        fades: ``"known"`` knows the fade, which nobody can before it sends; ``"expected"`` takes the best mean over
            equally likely fades, the most that an agent can reach that knows the items.
        cbr_points: Bandwidth ratios that are tried where the agent chooses them.
    """

    def __init__(
        self, dynamics: MixtureDynamics, fades: Literal["known", "expected"] = "expected", cbr_points: int = 17
    ) -> None:
        self.name = "Oracle" if fades == "expected" else "Oracle (knows the fade)"
        self._dynamics, self._known = dynamics, fades == "known"
        items, controls = dynamics.items, dynamics.scenario.controls
        # At last a text that leaves nothing to the region: the whole image is painted then, at times better.
        self._each = np.concatenate([[0], np.arange(items.least_symbols, items.most_symbols + 1), [np.inf]])
        self._cbr = np.linspace(0.0, 1.0, cbr_points) if "cbr" in controls else np.ones(1)
        self._margin = np.arange(len(items.margins) if "margin" in controls else 1)

    def act(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> np.ndarray:
        """(B, controls) float32."""
        known = info["privileged"]
        return self.best(known["image_index"], known["snr_db"], known["effective_snr_db"], known["cbr"])[0]

    def best(
        self, row: np.ndarray, snr_db: np.ndarray, effective_db: np.ndarray, cbr: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best actions and what they are worth.

        Args:
            row: (B,) int64 items.
            snr_db: (B,) mean SNR in dB.
            effective_db: (B,) SNR after equalization; not read where the fade is not known.
            cbr: (B,) the most that may be sent.

        Returns:
            (B, controls) float32 and (B,) reward, or its mean over the fades.
        """
        dynamics, scenario = self._dynamics, self._dynamics.scenario
        share, each, margin = (axis.ravel() for axis in np.meshgrid(self._cbr, self._each, self._margin, indexing="ij"))
        low = scenario.cbr_range[0]
        ratio = (
            low + share * (cbr[:, None] - low) if "cbr" in scenario.controls else np.repeat(cbr[:, None], len(share), 1)
        )
        total = total_symbols(ratio, dynamics.items.source_samples)
        alpha = np.clip(share_of(each * dynamics.items.tokens[row][:, None], total), *scenario.alpha_range)
        if self._known or scenario.channel == "awgn":
            fades_db = (effective_db - snr_db)[:, None, None]
        else:
            fades_db = fade_quantiles_db("rayleigh", _OBSERVED_FADES)[None, None]
        mean_db = snr_db[:, None, None]
        done = dynamics.value(
            row[:, None, None],
            mean_db,
            mean_db + fades_db,
            alpha[..., None],
            ratio[..., None],
            margin.astype(np.int64)[None, :, None],
        )
        worth = done.reward.mean(axis=-1)
        choice = worth.argmax(axis=1)
        here = np.arange(len(row)), choice
        return dynamics.action_of(alpha[here], share[choice], margin[choice]), worth[here]


def share_of(symbols: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The alpha that gives a text so many symbols of a budget, at most 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(symbols > 0, (symbols + _QUARTER) / total, 0.0)
    return np.asarray(np.minimum(np.nan_to_num(share, nan=0.0), 1.0))


def fit_rule(
    table: MixtureTable,
    channel: str,
    share: float = 0.97,
    of: Criterion = "rise",
    snr_db: Sequence[float] = (0.0, 5.0, 10.0, 15.0, 20.0),
) -> TokenRule:
    """The threshold rule of a table's items, see :func:`~noma_semcom_env.mixture.allocation.fit_thresholds`.

    Between the fitted SNRs it takes the symbols of the lower one, beyond them those of the nearest.

    Args:
        table: Of training images.
        channel: ``"awgn"`` or ``"rayleigh"``.
        share: Share of saturation that must be reached.
        of: What the share is of: CLIP-RONI's ``"ceiling"``, or its ``"rise"`` over that without text.
        snr_db: Mean SNRs to fit.
    """
    return fit_thresholds(
        table.clip_roni[:, 0],
        table.token_symbols,
        table.snr_db,
        tuple(snr_db),
        share,
        channel,
        of,
        interpolation="lower",
        extrapolate=True,
    )


def references(
    dynamics: MixtureDynamics, training: MixtureTable, fixed: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.5)
) -> list[MixturePolicy]:
    """All references of an environment.

    Args:
        dynamics: Of the environment.
        training: Table of training images, on which the threshold rule is fitted.
        fixed: Values of alpha.
    """
    paper = PaperRule("lower", extrapolate=True)
    policies: list[MixturePolicy] = [RulePolicy(FixedRule(alpha), dynamics, f"alpha = {alpha:g}") for alpha in fixed]
    policies += [
        RulePolicy(paper, dynamics, "Table I", "own"),
        RulePolicy(paper, dynamics, "Table I (24 tokens)", "padded"),
        RulePolicy(fit_rule(training, dynamics.scenario.channel), dynamics, "Fitted thresholds"),
        MixtureOracle(dynamics),
    ]
    if dynamics.scenario.channel != "awgn":
        policies.append(MixtureOracle(dynamics, "known"))
    return policies


@dataclass(frozen=True)
class MixtureRecord:
    """What a policy came to in E episodes of T steps; every array is (E, T).

    Attributes:
        name: Who acted.
        reward: Reward of the step.
        terms: By name, :data:`TERMS`.
    """

    name: str
    reward: np.ndarray
    terms: Mapping[str, np.ndarray]


def compare(
    policies: Sequence[MixturePolicy], knobs: Mapping[str, Any], episodes: int = 256, seed: int = 0
) -> list[MixtureRecord]:
    """Let every policy meet the same items, SNRs and fades.

    Args:
        policies: What acts.
        knobs: Keywords of the environment.
        episodes: E.
        seed: Of the first episode; episode i is seeded ``seed + i``.

    Raises:
        ValueError: If ``episodes`` is below 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r} must be at least 1")
    env: Any = gym.make_vec(ENVIRONMENT, episodes, vectorization_mode="vector_entry_point", **knobs)
    records = []
    for policy in policies:
        observation, info = env.reset(seed=seed)
        rewards, terms = [], []
        for _ in range(env.unwrapped.scenario.episode_length):
            # A step's info tells of that step; what a reference may know of the next one the dynamics tell.
            known = {"privileged": env.unwrapped.dynamics.privileged(env.unwrapped.state)}
            observation, reward, _, _, info = env.step(policy.act(observation, known))
            rewards.append(reward)
            terms.append([info[name] for name in TERMS])
        columns = dict(zip(TERMS, np.stack(terms).transpose(1, 2, 0), strict=True))
        records.append(MixtureRecord(policy.name, np.stack(rewards, axis=1), columns))
    env.close()
    return records


def _unscaled(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """[-1, 1] to [low, high]."""
    return np.asarray((np.asarray(value, dtype=np.float64) * (high - low) + (low + high)) / 2)
