"""MixtureOfSemantics-v0: what a step is, by an account of its own, and what its knobs do."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from noma_semcom_env import MixtureOfSemanticsEnv, MixtureOfSemanticsVectorEnv, MixtureScenario, MixtureTable

Make = Callable[..., MixtureTable]


@pytest.fixture(scope="session")
def mixture(make_mixture: Make) -> MixtureTable:
    return make_mixture(margins=(0, 2, 4))


@pytest.fixture
def batch(mixture: MixtureTable) -> Callable[..., MixtureOfSemanticsVectorEnv]:
    """Many environments, reset."""

    def build(**knobs: Any) -> MixtureOfSemanticsVectorEnv:
        env = MixtureOfSemanticsVectorEnv(512, recovery=mixture, **knobs)
        env.reset(seed=0)
        return env

    return build


def sent(env: MixtureOfSemanticsVectorEnv, value: float = 0.0, **entries: float) -> Any:
    """Rewards and infos of a step in which every control is ``value`` but for those that are named."""
    controls = env.scenario.controls
    action = np.array([entries.get(name, value) for name in controls], dtype=np.float32)
    _, reward, _, _, info = env.step(np.tile(action, (env.num_envs, 1)))
    return reward, info


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("accounting", ["counted", "paper"])
def test_a_step_is_what_it_says(mixture: MixtureTable, batch: Any, channel: str, accounting: str) -> None:
    """Every symbol and the reward, counted once more in plain Python."""
    env = batch(channel=channel, accounting=accounting, psnr_weight=0.3, undecodable_penalty=0.7)
    reward, info = sent(env, alpha=-0.6)
    items, known = mixture.items, info["privileged"]
    fates = set()
    for b in range(env.num_envs):
        row, snr = int(known["image_index"][b]), float(known["snr_db"][b])
        gain = abs(known["channel"][b, 0]) ** 2
        effective = snr + 10 * np.log10(gain)
        total = round(float(known["cbr"][b]) * 3 * 32 * 32)
        outage = -np.log(1 - 0.1) if channel == "rayleigh" else 1.0
        rate = np.log2(1 + outage * 10 ** (snr / 10))
        mask = int(np.ceil(items.mask_bits[row, 0] / rate)) if accounting == "counted" else 0
        fits = mask <= total
        mask = mask if fits else 0
        text = min(round(0.2 * total), total - mask)
        roi = total - mask - text if fits else 0
        each = min(text // int(items.tokens[row]), 32)
        each = each if each >= 5 else 0
        arrives = fits and (accounting == "paper" or np.log2(1 + 10 ** (effective / 10)) >= rate * (1 - 1e-12))
        assert info["total_symbols"][b] == total
        assert (info["mask_symbols"][b], info["text_symbols"][b], info["roi_symbols"][b]) == (mask, text, roi)
        assert info["symbols_per_token"][b] == each
        assert info["mask_received"][b] == arrives
        assert known["effective_snr_db"][b] == pytest.approx(effective)
        worth = mixture.quality(*(np.array([x]) for x in (row, 0, roi, each, snr, effective, bool(arrives))))
        expected = 0.3 * worth.psnr_roi_db[0] / 40 + 0.7 * worth.clip_roni[0] / mixture.clip_ceiling
        expected -= 0.7 * worth.undecodable[0]
        assert reward[b] == pytest.approx(expected)
        assert info["quality"][b] == pytest.approx(expected)
        fates.add((bool(fits), bool(arrives), each > 0))
    assert {(True, True, True), (True, True, False)} <= fates
    assert ((True, False, True) in fates) is (channel == "rayleigh" and accounting == "counted")


def test_alpha_of_0_and_1(batch: Any) -> None:
    env = batch(channel="awgn")
    _, none = sent(env, alpha=-1.0)
    assert not none["text_symbols"].any()
    assert (none["token_error"] == 1.0).all()
    assert (none["undecodable"] == 1.0).all()
    _, whole = sent(env, alpha=1.0)
    fits = whole["mask_received"] == 1
    assert not whole["roi_symbols"].any()
    np.testing.assert_array_equal((whole["text_symbols"] + whole["mask_symbols"])[fits], whole["total_symbols"][fits])
    grey = env.dynamics.recovery.grey_psnr_db[whole["privileged"]["image_index"], 0]
    np.testing.assert_allclose(whole["psnr_roi_db"], grey, rtol=1e-6)


def test_more_text_costs_the_region_and_saves_the_rest(batch: Any) -> None:
    terms = {}
    for alpha in (-0.9, -0.5, 0.0, 0.5):
        terms[alpha] = sent(batch(channel="awgn", accounting="paper"), alpha=alpha)[1]
    shares = sorted(terms)
    for one, other in pairwise(shares):
        assert (terms[other]["psnr_roi_db"] <= terms[one]["psnr_roi_db"]).all()
        assert (terms[other]["clip_roni"] >= terms[one]["clip_roni"] - 1e-9).all()


def test_the_agent_can_set_cbr_and_margin(mixture: MixtureTable, batch: Any) -> None:
    env = batch(controls=("alpha", "cbr", "margin"), cbr_weight=0.5, channel="awgn")
    assert env.single_action_space.shape == (3,)
    assert env.single_observation_space["roi_size"].shape == (3,)
    reward, least = sent(env, cbr=-1.0, margin=-1.0)
    np.testing.assert_allclose(least["cbr"], 0.02)
    assert (least["margin_px"] == 0).all()
    np.testing.assert_allclose(least["quality"] - reward, 0.5 * 0.02 / 0.12)
    reward, most = sent(env, cbr=1.0, margin=1.0)
    np.testing.assert_allclose(most["cbr"], most["privileged"]["cbr"])
    assert (most["margin_px"] == 4).all()
    np.testing.assert_allclose(most["quality"] - reward, 0.5 * most["cbr"] / 0.12)
    _, middle = sent(env, margin=0.1)
    assert (middle["margin_px"] == 2).all()
    row = middle["privileged"]["image_index"]
    cost = np.ceil(mixture.items.mask_bits[row, 1] / np.log2(1 + 10 ** (middle["privileged"]["snr_db"] / 10)))
    np.testing.assert_array_equal(middle["mask_symbols"], np.where(cost <= middle["total_symbols"], cost, 0))


def test_alpha_has_a_range(batch: Any) -> None:
    env = batch(alpha_range=(0.1, 0.3))
    for value, alpha in ((-1.0, 0.1), (0.0, 0.2), (1.0, 0.3)):
        np.testing.assert_allclose(sent(env, alpha=value)[1]["alpha"], alpha)
    dynamics = env.dynamics
    action = dynamics.action_of(np.array([0.15, 0.9]), np.ones(2), np.zeros(2))
    np.testing.assert_allclose(dynamics.choices(action.astype(float), np.ones(2))[0], [0.15, 0.3], atol=1e-6)


def test_a_margin_needs_margins(make_mixture: Make) -> None:
    with pytest.raises(ValueError, match="holds 'margin', but the image set has only the margin 0"):
        MixtureOfSemanticsEnv(recovery=make_mixture(), controls=("alpha", "margin"))


def test_fades_are_rayleigh_and_snrs_uniform(batch: Any) -> None:
    from scipy.stats import kstest

    state = batch().state
    power = (np.abs(state.channel) ** 2).ravel()
    assert kstest(power, "expon").pvalue > 1e-3
    assert kstest(state.snr_db.ravel() / 20, "uniform").pvalue > 1e-3
    assert set(np.unique(state.cbr)) == {0.032, 0.048, 0.064, 0.08, 0.096}
    listed = batch(snr_values_db=(3.0, 12.0)).state
    assert set(np.unique(listed.snr_db)) == {3.0, 12.0}
    assert (batch(channel="awgn").state.channel == 1.0).all()


def test_draws_do_not_depend_on_knobs_of_what_is_done(batch: Any) -> None:
    plain = batch().state
    for knobs in (
        {"controls": ("alpha", "cbr", "margin")},
        {"accounting": "paper", "psnr_weight": 0.1},
        {"channel": "awgn"},
        {"snr_values_db": (1.0,)},
    ):
        other = batch(**knobs).state
        np.testing.assert_array_equal(plain.item, other.item)
        np.testing.assert_array_equal(plain.cbr, other.cbr)
        if "channel" not in knobs:
            np.testing.assert_array_equal(plain.channel, other.channel)


def test_observations_tell_what_is_to_be_sent(mixture: MixtureTable) -> None:
    env = MixtureOfSemanticsEnv(recovery=mixture, snr_values_db=(10.0,), cbr_values=(0.2,))
    seen, info = env.reset(seed=3)
    row, items = info["privileged"]["image_index"], mixture.items
    assert seen["snr"] == pytest.approx(0.0)
    assert seen["cbr"] == pytest.approx(1.0)
    np.testing.assert_allclose(seen["roi_size"], 2 * (np.log10(items.roi_share[row]) + 3) / 3 - 1, rtol=1e-5)
    np.testing.assert_allclose(seen["mask_bits"], 2 * np.log2(1 + items.mask_bits[row]) / 14 - 1, rtol=1e-5)
    np.testing.assert_allclose(seen["caption_tokens"], [2 * np.log2(items.tokens[row]) / 6 - 1], rtol=1e-5)
    np.testing.assert_allclose(seen["importance"], [2 * items.importance[row] - 1], rtol=1e-5)


def test_items_can_be_chosen(mixture: MixtureTable) -> None:
    ids = mixture.items.item_ids
    env = MixtureOfSemanticsEnv(recovery=mixture, image_ids=ids[1:3], episode_length=4)
    _, info = env.reset(seed=0)
    drawn = {info["privileged"]["image_ids"]}
    for _ in range(10):
        for _ in range(4):
            drawn.add(env.step(np.zeros(1))[4]["privileged"]["image_ids"])
        env.reset()
    assert drawn == set(ids[1:3])
    wanted = [ids[4], ids[0], ids[5], ids[4]]
    _, info = env.reset(options={"image_ids": wanted})
    for name in wanted:
        assert info["privileged"]["image_ids"] == name
        assert env.step(np.zeros(1))[4]["privileged"]["image_ids"] == name
        info = {"privileged": env.dynamics.privileged(env.state)}
        info["privileged"]["image_ids"] = info["privileged"]["image_ids"][0]
        if env.state.elapsed[0] == 4:
            break
    vector = MixtureOfSemanticsVectorEnv(2, recovery=mixture, episode_length=4)
    vector.reset(options={"image_ids": [wanted, wanted[::-1]]})
    assert vector.state.item[1, :4].tolist() == [4, 5, 0, 4]
    for bad, message in (
        (wanted[:3], "one id for each of the 4 steps"),
        (["x", *wanted[1:]], "holds 'x'"),
        ("abcd", "one id for each"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options={"image_ids": bad})
    with pytest.raises(ValueError, match="holds 'x'"):
        MixtureOfSemanticsEnv(recovery=mixture, image_ids=("x",))


def test_bad_actions_are_refused_and_large_ones_clipped(mixture: MixtureTable) -> None:
    env = MixtureOfSemanticsEnv(recovery=mixture)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(1))
    env.reset(seed=0)
    assert env.step(np.array([7.0]))[4]["alpha"] == 1.0
    for bad, error, message in (
        (np.zeros(2), ValueError, r"action has shape \(2,\); \(1,\) is needed: alpha"),
        (0.0, ValueError, r"action has shape \(\)"),
        (np.array([np.nan]), ValueError, "not finite"),
        (np.array(["a"]), TypeError, "numbers in"),
    ):
        with pytest.raises(error, match=message):
            env.step(bad)


def test_the_ceiling_can_be_given(mixture: MixtureTable) -> None:
    rewards = []
    for ceiling in (None, mixture.clip_ceiling, 2 * mixture.clip_ceiling):
        env = MixtureOfSemanticsEnv(recovery=mixture, clip_ceiling=ceiling, psnr_weight=0.0)
        env.reset(seed=1)
        rewards.append(env.step(np.zeros(1))[1])
    assert rewards[0] == rewards[1] != rewards[2]


def test_a_saved_state_goes_on_alike(mixture: MixtureTable) -> None:
    env = MixtureOfSemanticsEnv(recovery=mixture, episode_length=3)
    env.reset(seed=5)
    env.step(np.zeros(1))
    saved = env.get_state()
    once = [env.step(np.full(1, 0.3))[1], env.step(np.full(1, -0.3))[1], env.reset()[0]["snr"][0]]
    env.set_state(saved)
    again = [env.step(np.full(1, 0.3))[1], env.step(np.full(1, -0.3))[1], env.reset()[0]["snr"][0]]
    assert once == again


def test_the_default_recovery_is_a_bundled_table_by_name(mixture_path: str) -> None:
    env = gymnasium.make("MixtureOfSemantics-v0", images=mixture_path)
    assert env.unwrapped.scenario.images == mixture_path
    with pytest.raises(ValueError, match="names no bundled mixture table"):
        gymnasium.make("MixtureOfSemantics-v0", images="nowhere")
    scenario = MixtureScenario(images=mixture_path, channel="awgn")
    twin = gymnasium.make("MixtureOfSemantics-v0", scenario=scenario, psnr_weight=0.9).unwrapped.scenario
    assert json.loads(twin.to_json()) == json.loads(scenario.to_json()) | {"psnr_weight": 0.9}
    with pytest.raises(TypeError, match="num_envs=2.5"):
        MixtureOfSemanticsVectorEnv(2.5, images=mixture_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_envs=0"):
        MixtureOfSemanticsVectorEnv(0, images=mixture_path)
