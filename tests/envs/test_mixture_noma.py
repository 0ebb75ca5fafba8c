"""MixtureOfSemanticsNoma-v0: airtimes, joint orders and qualities, by an account of their own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from noma_semcom_env import MixtureOfSemanticsNomaEnv, MixtureOfSemanticsNomaVectorEnv, MixtureTable

Make = Callable[..., MixtureTable]


@pytest.fixture(scope="session")
def mixture(make_mixture: Make) -> MixtureTable:
    return make_mixture(items=12)


def stepped(mixture: MixtureTable, num: int = 64, **knobs: Any) -> Any:
    env = MixtureOfSemanticsNomaVectorEnv(num, recovery=mixture, **knobs)
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    _, reward, _, _, info = env.step(action)
    return env, action, reward, info


@pytest.mark.parametrize("accounting", ["counted", "paper"])
def test_a_step_is_what_it_says(mixture: MixtureTable, accounting: str) -> None:
    """The best of all orders with MMSE receivers, by a direct solve, and the reward in plain Python."""
    knobs = {"latency_ref_s": 2e-4, "quality_weight": 0.6, "bandwidth_hz": 2e6, "accounting": accounting}
    env, action, reward, info = stepped(mixture, **knobs)
    items, known = mixture.items, info["privileged"]
    for b in range(env.num_envs):
        rows = known["image_index"][b]
        h = np.sqrt(known["power_w"][b] / known["noise_power_w"][b])[:, None] * known["channel"][b]
        share = (action[b].reshape(3, 2).astype(np.float64) + 1) / 2
        total = np.rint((0.02 + share[:, 1] * 0.1) * 3 * 32 * 32)
        text = np.rint(share[:, 0] * total)
        bits = items.mask_bits[rows, 0] * (accounting == "counted")
        best, found = np.inf, {}
        for order in permutations(range(3)):
            worst, ratios = 0.0, np.zeros(3)
            for place, k in enumerate(order):
                covariance = sum((np.outer(h[j], h[j].conj()) for j in order[place + 1 :]), start=np.eye(2))
                ratios[k] = (h[k].conj() @ np.linalg.solve(covariance, h[k])).real
                worst = max(worst, total[k] / 2e6 + bits[k] / (2e6 * np.log2(1 + ratios[k])))
            found[order] = ratios
            best = min(best, worst)
        assert info["latency_s"][b] == pytest.approx(best, rel=1e-9)
        ratios = found[tuple(info["decoding_order"][b].tolist())]
        np.testing.assert_allclose(info["sinr_db"][b], 10 * np.log10(ratios), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(info["text_symbols"][b], text)
        np.testing.assert_array_equal(info["roi_symbols"][b], total - text)
        each = np.minimum(text // items.tokens[rows], 32)
        each = np.where(each >= 5, each, 0).astype(int)
        sinr = info["sinr_db"][b]
        worth = mixture.quality(
            rows, np.zeros(3, int), (total - text).astype(int), each, sinr, sinr, np.ones(3, dtype=bool)
        )
        quality = 0.5 * worth.psnr_roi_db / 40 + 0.5 * worth.clip_roni / mixture.clip_ceiling - 0.1 * worth.undecodable
        np.testing.assert_allclose(info["quality"][b], quality)
        assert reward[b] == pytest.approx(0.6 * quality.mean() - 0.4 * best / 2e-4)
    assert not info["violations"].any()


def test_exhaustive_search_finds_no_better_order(mixture: MixtureTable) -> None:
    knobs = {"num_users": 4, "num_antennas": 2, "bandwidth_hz": 1e6}
    *_, greedy = stepped(mixture, **knobs)
    *_, search = stepped(mixture, transmission="exhaustive", **knobs)
    np.testing.assert_allclose(greedy["latency_s"], search["latency_s"], rtol=1e-9)


def test_late_transmissions_are_capped_and_fined(mixture: MixtureTable) -> None:
    _, _, reward, info = stepped(
        mixture, latency_ref_s=1e-5, max_latency_s=1e-4, violation_penalty=3.0, quality_weight=0.0
    )
    late = info["violations"] == 1
    assert late.any()
    np.testing.assert_allclose(reward[late], -10.0 - 3.0)
    np.testing.assert_allclose(reward[~late], -info["latency_s"][~late] / 1e-5)


def test_a_user_that_cannot_be_heard_loses_everything_but_breaks_nothing(mixture: MixtureTable) -> None:
    class Broken:
        """The first user's channel is 0."""

        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            draws = rng.standard_normal((steps, len(distances_m), antennas, 2)).view(np.complex128)[..., 0] * 1e-6
            draws[:, 0] = 0.0
            return draws

    _, _, reward, info = stepped(mixture, num=8, fading=Broken())
    assert np.isneginf(info["sinr_db"][:, 0]).all()
    assert (info["undecodable"][:, 0] == 1).all()
    np.testing.assert_allclose(info["latency_s"], 2.0)
    assert (info["violations"] == 1).all()
    assert np.isfinite(reward).all()
    *_, free = stepped(mixture, num=8, fading=Broken(), accounting="paper")
    assert not free["violations"].any(), "without a mask nothing waits for a rate"


def test_channels_of_the_wrong_shape_are_refused(mixture: MixtureTable) -> None:
    class Short:
        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            return np.ones((steps, len(distances_m), antennas + 1), dtype=complex)

    env = MixtureOfSemanticsNomaEnv(recovery=mixture, fading=Short())
    with pytest.raises(ValueError, match=r"gave a channel of shape \(21, 3, 3\); \(21, 3, 2\) is needed"):
        env.reset(seed=0)


def test_items_change_every_step_unless_they_are_given(mixture: MixtureTable) -> None:
    env = MixtureOfSemanticsNomaEnv(recovery=mixture)
    env.reset(seed=0)
    drawn = [tuple(env.step(np.zeros(6))[4]["privileged"]["image_index"]) for _ in range(20)]
    assert len(set(drawn)) > 15
    ids = mixture.items.item_ids
    env.reset(options={"image_ids": [ids[3], ids[3], ids[7]]})
    drawn = [tuple(env.step(np.zeros(6))[4]["privileged"]["image_index"]) for _ in range(20)]
    assert set(drawn) == {(3, 3, 7)}
    with pytest.raises(ValueError, match="one id for each of the 3 users"):
        env.reset(options={"image_ids": ids[:2]})


def test_draws_do_not_depend_on_knobs_of_what_is_done(mixture: MixtureTable) -> None:
    plain = stepped(mixture)[0].state
    for knobs in ({"accounting": "paper"}, {"transmission": "exhaustive"}, {"sic_residual": 0.1}, {"psnr_weight": 0.0}):
        other = stepped(mixture, **knobs)[0].state
        for name in ("item", "channels", "distances_m"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


def test_residuals_cost_and_actions_are_checked(mixture: MixtureTable) -> None:
    *_, clean = stepped(mixture)
    *_, dirty = stepped(mixture, sic_residual=0.1)
    assert (dirty["latency_s"] >= clean["latency_s"] * (1 - 1e-12)).all()
    assert (dirty["sinr_db"].min(axis=1) <= clean["sinr_db"].min(axis=1) + 1e-9).mean() > 0.9
    env = MixtureOfSemanticsNomaEnv(recovery=mixture)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action has shape \(3,\); \(6,\) is needed: alpha and cbr, user by user"):
        env.step(np.zeros(3))


@pytest.mark.parametrize("transmission", ["optimal", "exhaustive"])
def test_where_masks_cost_nothing_the_order_follows_the_link(mixture: MixtureTable, transmission: str) -> None:
    """All orders take the longest airtime then; by airtimes users would be decoded as their CBRs ascend."""
    env, action, _, info = stepped(mixture, accounting="paper", transmission=transmission)
    known, by_airtime = info["privileged"], 0
    for b in range(env.num_envs):
        h = np.sqrt(known["power_w"][b] / known["noise_power_w"][b])[:, None] * known["channel"][b]
        waiting = [0, 1, 2]
        for k in info["decoding_order"][b].tolist():
            ratio = {}
            for one in waiting:
                others = sum((np.outer(h[j], h[j].conj()) for j in waiting if j != one), start=np.eye(2))
                ratio[one] = (h[one].conj() @ np.linalg.solve(others, h[one])).real
            assert k == max(ratio, key=lambda one: ratio[one])
            waiting.remove(k)
        cbr = action[b].reshape(3, 2)[:, 1]
        by_airtime += info["decoding_order"][b].tolist() == np.argsort(cbr).tolist()
    assert by_airtime < env.num_envs / 2
