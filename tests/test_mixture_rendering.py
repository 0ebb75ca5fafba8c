"""Rendering of mixtures: what was sent and what it was worth, the same way each time, and nothing changes by it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from noma_semcom_env import MixtureOfSemanticsEnv, MixtureOfSemanticsNomaEnv, MixtureTable
from noma_semcom_env.mixture.items import grow
from noma_semcom_env.rendering import RENDER_FPS, RENDER_MODES
from noma_semcom_env.rendering.mixture_frame import PARTS, WIDTH, MixturePainter

ALONE, UPLINK = "MixtureOfSemantics-v0", "MixtureOfSemanticsNoma-v0"
Make = Callable[..., MixtureTable]


@pytest.fixture(scope="module")
def mixture(make_mixture: Make) -> MixtureTable:
    return make_mixture(margins=(0, 2, 4))


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return pytest.importorskip("pygame")


@pytest.fixture
def make(mixture: MixtureTable) -> Callable[..., Any]:
    def build(name: str, mode: str | None = "rgb_array", **knobs: Any) -> Any:
        return gymnasium.make(name, recovery=mixture, render_mode=mode, **knobs).unwrapped

    return build


def played(env: Any, steps: int = 2, seed: int = 0) -> Any:
    """The last step's reward and info."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        _, reward, _, _, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
    return reward, info


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        (ALONE, {}),
        (ALONE, {"channel": "awgn", "controls": ("alpha", "cbr", "margin"), "cbr_values": (0.05,)}),
        (ALONE, {"accounting": "paper", "snr_range_db": (-30.0, -20.0)}),
        (UPLINK, {}),
        (UPLINK, {"num_users": 1}),
        (UPLINK, {"num_users": 8, "num_antennas": 4, "latency_ref_s": 1e-6}),
    ],
)
def test_a_frame_is_a_picture_that_every_step_changes(make: Any, name: str, knobs: dict[str, Any]) -> None:
    env, twin = make(name, **knobs), make(name, **knobs)
    assert env.metadata["render_modes"] == list(RENDER_MODES)
    assert env.metadata["render_fps"] == RENDER_FPS
    env.reset(seed=0)
    frames = [env.render()]
    for steps in (1, 2):
        played(env, steps)
        frames.append(env.render())
    for frame in frames:
        assert frame.shape == frames[0].shape
        assert frame.shape[1:] == (WIDTH, 3)
        assert frame.dtype == np.uint8
        assert len(np.unique(frame.astype(int) @ [1, 256, 65536])) > 50
    assert all((one != other).any() for one, other in pairwise(frames))
    played(twin, 4, seed=1)
    assert (twin.render() != frames[2]).any()
    played(twin)
    np.testing.assert_array_equal(twin.render(), frames[2])
    twin.render()[:] = 0
    np.testing.assert_array_equal(twin.render(), frames[2])
    env.close()


@pytest.mark.parametrize("name", [ALONE, UPLINK])
def test_looking_changes_nothing(make: Any, name: str, assert_same: Any) -> None:
    seen, unseen = make(name), make(name, mode=None)
    reward, info = played(seen, 3)
    seen.render()
    expected, terms = played(unseen, 3)
    assert reward == expected
    assert_same(info, terms)
    np.testing.assert_array_equal(seen.np_random.random(4), unseen.np_random.random(4))
    for twin in (copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))):  # noqa: S301 (its own)
        np.testing.assert_array_equal(twin.render(), seen.render())


def test_the_region_is_outlined(mixture: MixtureTable, make: Any) -> None:
    painter = MixturePainter(make(ALONE).dynamics)
    side, items = painter._side, mixture.items
    near = np.arange(side) * 32 // side
    for item in range(3):
        for margin, pixels in enumerate(items.margins):
            region = items.region(item, margin)
            assert region.sum() == grow(items.rois[item], int(pixels)).sum()
            drawn = (np.asarray(painter._outlined(item, margin)) == PARTS["ROI"]).all(axis=-1)
            border = grow(region, 1) & grow(~region, 1)
            assert drawn.any()
            assert grow(border, 1)[np.ix_(near, near)][drawn].all()


def test_the_bar_is_split_as_the_symbols_are(make: Any) -> None:
    env = make(ALONE)
    _, info = played(env)
    frame = env.render()[:-30]
    counts = {name: (frame == colour).all(axis=-1).sum(axis=1).max() for name, colour in PARTS.items()}
    whole = sum(counts.values())
    spent = {name: info[f"{name.lower()}_symbols"] for name in PARTS}
    for name, count in counts.items():
        if name != "ROI":  # its colour is the outline's and the curve's as well
            assert count / whole == pytest.approx(spent[name] / sum(spent.values()), abs=0.05)


def test_a_text_tells_the_figures_of_the_step(make: Any, mixture: MixtureTable) -> None:
    env = make(ALONE, "ansi")
    env.reset(seed=0)
    assert env.render().splitlines()[0] == "step 0/20"
    reward, info = played(env)
    head, names, row = env.render().splitlines()
    assert head.startswith(f"step 2/20  reward {reward:.4f}  return ")
    columns = "user item SNR arrives order CBR mask ROI text PSNR-ROI CLIP-RONI wrong worth asked for"
    assert names.split() == columns.split()
    known = info["privileged"]
    for part in (
        known["image_ids"],
        f" {known['snr_db']:.1f} dB",
        f" {known['effective_snr_db']:.1f} dB",
        f" {info['cbr']:.3f} ",
        f" {info['mask_symbols']} ",
        f" {info['roi_symbols']}",
        f" {info['text_symbols']} ",
        f" {info['psnr_roi_db']:.1f} dB",
        f" {info['clip_roni']:.3f} ",
        f" {info['quality']:.3f} ",
        f'"{mixture.items.prompts[known["image_index"]]}"',
    ):
        assert part in row


def test_an_uplinks_text_has_orders_latency_and_airtimes(make: Any) -> None:
    env = make(UPLINK, "ansi", max_latency_s=1e-6)
    reward, info = played(env)
    head, _, *rows = env.render().splitlines()
    assert f"reward {reward:.4f}" in head
    assert "(above the maximum)" in head
    order = info["decoding_order"].tolist()
    for user, row in enumerate(rows):
        assert row.startswith(f"SU {user + 1}  {info['privileged']['image_ids'][user]}")
        assert f" {('1st', '2nd', '3rd')[order.index(user)]} " in row
        assert f" {info['sinr_db'][user]:.1f} dB" in row
        assert f" {info['mask_bits'][user] * 1e6 / info['rate_bps'][user]:.0f} " in row


@pytest.mark.parametrize("name", [ALONE, UPLINK])
def test_the_terms_add_up_to_the_reward(make: Any, name: str) -> None:
    knobs: dict[str, Any] = {"controls": ("alpha", "cbr")} if name == ALONE else {"quality_weight": 0.7}
    env = make(name, undecodable_penalty=0.3, **knobs)
    for seed in range(4):
        reward, _ = played(env, seed=seed)
        view = env._renderer._views[0]
        worths = [sum(one.sent.worth_terms) for one in view.mixtures]
        assert worths == pytest.approx([one.sent.worth for one in view.mixtures])
        assert knobs.get("quality_weight", 1.0) * np.mean(worths) - view.cost == pytest.approx(reward)
        assert view.cost > 0


def test_lost_regions_and_masks_that_never_arrive_are_named(make: Any) -> None:
    env = make(ALONE, "ansi", snr_range_db=(-60.0, -60.0))
    _, info = played(env)
    assert not info["mask_received"]
    assert f"{info['roi_symbols']} lost" in env.render()
    uplink = make(UPLINK, num_users=1)
    played(uplink)
    (view,) = uplink._renderer._views
    heard = view.mixtures[0]
    silent = replace(heard, sent=replace(heard.sent, mask_uses=np.inf))
    drawn = [uplink._renderer._frame(replace(view, mixtures=(one,))) for one in (heard, silent)]
    assert (drawn[0] != drawn[1]).any()


def test_a_region_of_which_no_symbol_is_sent_is_lost_too(make: Any) -> None:
    env = make(ALONE, "ansi", snr_range_db=(20.0, 20.0), channel="awgn")
    env.reset(seed=0)
    info = env.step(np.ones(env.action_space.shape, np.float32))[-1]  # all symbols for the text
    assert (info["alpha"], info["roi_symbols"], info["mask_received"]) == (1.0, 0, True)
    assert "0 lost" in env.render()


def test_sub_environments_have_a_frame_each(mixture: MixtureTable, make: Any) -> None:
    for name in (ALONE, UPLINK):
        many = gymnasium.make_vec(
            name, num_envs=2, vectorization_mode="vector_entry_point", recovery=mixture, render_mode="ansi"
        )
        alone = make(name, "ansi")
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before render"):
            many.render()
        many.reset(seed=3)
        alone.reset(seed=4)
        action = np.zeros(many.action_space.shape, np.float32)
        many.step(action)
        alone.step(action[1])
        assert many.render()[1] == alone.render()
        many.close()


@pytest.mark.parametrize("name", [ALONE, UPLINK])
def test_a_window_shows_each_step_and_closes(make: Any, name: str, pygame: Any) -> None:
    window, picture = make(name, "human"), make(name)
    for env in (window, picture):
        played(env, 1)
    assert window.render() is None
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, picture.render())
    window.close()
    assert not pygame.display.get_init()
    window.close()


@pytest.mark.parametrize("kind", [MixtureOfSemanticsEnv, MixtureOfSemanticsNomaEnv])
def test_other_modes_are_refused(kind: Any, mixture: MixtureTable) -> None:
    with pytest.raises(ValueError, match="render_mode='svg' is not offered"):
        kind(recovery=mixture, render_mode="svg")
