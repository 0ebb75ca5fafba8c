"""Rendering shows what happened, the same way each time, and changes nothing."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from noma_semcom_env import Scenario
from noma_semcom_env.dynamics import Dynamics, State, Transition
from noma_semcom_env.link.channel import steering_vector
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.rendering import Renderer
from noma_semcom_env.rendering.frame import HEIGHT, WIDTH, Painter
from noma_semcom_env.rendering.recoveries import Recoveries
from noma_semcom_env.rendering.view import Episode, View, seconds, sent_of


class Bare:
    """A recovery of a user's own, with what the protocol asks for and no more."""

    def __init__(self, table: RecoveryTable) -> None:
        self.bank = table.bank
        self.lpips = table.lpips


def begun(renderer: Renderer, seed: int = 0) -> State:
    state = renderer.dynamics.reset([np.random.default_rng(seed)])
    renderer.begin(state)
    return state


def played(renderer: Renderer, steps: int = 3, seed: int = 0, probability: float = 0.6) -> Transition:
    """The last transition of an episode of random selections."""
    dynamics, state = renderer.dynamics, begun(renderer, seed)
    rng = np.random.default_rng(seed)
    shape = 1, dynamics.scenario.num_users, dynamics.bank.width
    for _ in range(steps):
        moved = dynamics.step(state, rng.random(shape) < probability)
        renderer.record(moved)
        state = moved.state
    return moved


def frame(renderer: Renderer) -> Any:
    rendered = renderer.render()
    assert rendered is not None
    return rendered[0]


@pytest.fixture
def dynamics(table: RecoveryTable) -> Dynamics:
    return Dynamics(Scenario(recovery=table))


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"num_users": 1, "num_antennas": 1},
        {"num_users": 4, "prune": False},
        {"num_users": 12, "num_antennas": 16, "fading": "rician"},
        {"access": "tdma"},
        {"access": "fdma", "distances_m": (400.0, 60.0, 5.0)},
    ],
)
def test_a_frame_is_a_picture_of_one_size_that_every_step_changes(table: RecoveryTable, knobs: dict[str, Any]) -> None:
    renderer = Renderer("rgb_array", Dynamics(Scenario(recovery=table, **knobs)))
    state = begun(renderer)
    first = frame(renderer)
    everything = np.ones((1, renderer.dynamics.scenario.num_users, renderer.dynamics.bank.width), dtype=bool)
    renderer.record(renderer.dynamics.step(state, everything))
    second = frame(renderer)
    for one in (first, second):
        assert one.shape == (HEIGHT, WIDTH, 3)
        assert one.dtype == np.uint8
        assert len(np.unique(one.astype(int) @ [1, 256, 65536])) > 100
    assert (first != second).any(axis=-1).mean() > 0.01


def test_equal_states_give_equal_pixels_whatever_was_drawn_before(dynamics: Dynamics) -> None:
    renderer, fresh = Renderer("rgb_array", dynamics), Renderer("rgb_array", dynamics)
    played(renderer)
    expected = frame(renderer)
    np.testing.assert_array_equal(frame(renderer), expected)
    played(renderer, seed=1)
    assert (frame(renderer) != expected).any()
    played(renderer)
    played(fresh)
    np.testing.assert_array_equal(frame(renderer), expected)
    np.testing.assert_array_equal(frame(fresh), expected)
    frame(fresh)[:] = 0
    np.testing.assert_array_equal(frame(fresh), expected)


def test_looking_changes_nothing(dynamics: Dynamics) -> None:
    renderer = Renderer("rgb_array", dynamics)
    moved = played(renderer)
    kept = copy.deepcopy((moved.info, moved.reward, [getattr(moved.state, n) for n in ("channels", "last_order")]))
    frame(renderer)
    seen = moved.info, moved.reward, [getattr(moved.state, n) for n in ("channels", "last_order")]
    assert pickle.dumps(kept) == pickle.dumps(copy.deepcopy(seen))


def test_the_masks_that_were_sent_are_in_the_frame() -> None:
    dynamics = Dynamics(Scenario(images="street-test", num_users=1, prune=False))
    renderer = Renderer("rgb_array", dynamics)
    state = begun(renderer)
    features = dynamics.recovery.features[state.image_index[0, 0]]  # type: ignore[attr-defined]
    for sent in range(len(features.mask_labels)):
        selection = np.arange(dynamics.bank.width) == sent
        renderer.record(dynamics.step(state, selection[None, None]))
        picture = Painter(dynamics)._mask_picture(int(state.image_index[0, 0]), selection)
        pixels = np.asarray(picture)
        windows = np.lib.stride_tricks.sliding_window_view(frame(renderer)[80:280, 550:770], pixels.shape)[:, :, 0]
        assert (windows == pixels).all(axis=(2, 3, 4)).sum() == 1


def test_a_text_tells_the_figures_of_the_step(dynamics: Dynamics) -> None:
    renderer = Renderer("ansi", dynamics)
    begun(renderer)
    before = frame(renderer)
    assert before.splitlines()[0] == "step 0/20"
    moved = played(renderer)
    text = frame(renderer)
    head, names, *rows = text.splitlines()
    assert head.startswith(f"step 3/20  reward {moved.reward[0]:.4f}  latency {seconds(moved.info['latency_s'][0])}")
    assert names.split() == ["user", "image", "distance", "SNR", "order", "bits", "latency", "LPIPS", "sent"]
    assert len(rows) == 3
    order = moved.info["decoding_order"][0].tolist()
    for user, row in enumerate(rows):
        bits, selection = moved.info["demand_bits"][0, user], moved.info["selection"][0, user]
        assert row.startswith(f"SU {user + 1}  {moved.info['privileged']['image_ids'][0, user]}")
        assert f" {bits} " in row
        assert f" {moved.info['lpips'][0, user]:.3f} " in row
        assert (f" {('1st', '2nd', '3rd')[order.index(user)]} " in row) == bool(bits)
        features = dynamics.recovery.features[moved.state.image_index[0, user]]  # type: ignore[attr-defined]
        masks, phrases = features.selected(selection)
        named = [label for label, on in zip(features.mask_labels, masks, strict=True) if on]
        named += [f'"{phrase}"' for phrase in phrases]
        assert row.endswith(", ".join(named) if named else "nothing")


def test_silent_users_and_demands_that_cannot_be_delivered_are_named(table: RecoveryTable) -> None:
    dynamics = Dynamics(Scenario(recovery=table, num_users=2, transmit_power_dbm=(23.0, -100.0)))
    text, picture = Renderer("ansi", dynamics), Renderer("rgb_array", dynamics)
    played(text, steps=1, probability=0.0)
    assert frame(text).count("nothing") == 2
    assert " 1st " not in frame(text)
    state = begun(text)
    picture.begin(state)
    moved = dynamics.step(state, np.ones((1, 2, dynamics.bank.width), dtype=bool))
    moved.info["rate_bps"][0, 1] = 0.0
    for renderer in (text, picture):
        renderer.record(moved)
    assert "never" in frame(text)
    assert "above the maximum" in frame(text)
    assert frame(picture).shape == (HEIGHT, WIDTH, 3)


def test_orthogonal_access_has_no_order(table: RecoveryTable) -> None:
    renderer = Renderer("ansi", Dynamics(Scenario(recovery=table, access="tdma")))
    played(renderer)
    assert not any(place in frame(renderer) for place in ("1st", "2nd", "3rd"))


def test_a_recovery_without_pictures_is_drawn_without(table: RecoveryTable) -> None:
    bare = Dynamics(Scenario(recovery=Bare(table)))
    renderer, text = Renderer("rgb_array", bare), Renderer("ansi", bare)
    moved = played(renderer)
    assert frame(renderer).shape == (HEIGHT, WIDTH, 3)
    played(text)
    image, chosen = moved.state.image_index[0, 0], moved.info["selection"][0, 0]
    labels = [bare.bank.labels[label] for label in bare.bank.label[image][chosen]]
    assert all(label in frame(text).splitlines()[2] for label in labels)
    with pytest.raises(ValueError, match="drawn from features, which recovery=.*Bare.* does not have"):
        Renderer("rgb_array", bare, recovered=True)


def test_recovered_images_come_from_what_was_sent_once(table_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bytes]] = []

    def recover(features: Any, selections: np.ndarray, seeds: Any) -> np.ndarray:
        asked.append((features[0].image_id, selections.tobytes()))
        return np.full((1, 1, 8, 8, 3), 7, dtype=np.uint8)

    def load(models: Any, steps: int | None) -> Any:
        assert (models, steps) == ("street", 4)
        return SimpleNamespace(recover=recover)

    monkeypatch.setattr("noma_semcom_env.recovery.pipeline.load_recovery", load)
    dynamics = Dynamics(Scenario(images=table_path, num_users=2))
    renderer = Renderer("rgb_array", dynamics, recovered=True)
    begun(renderer)
    frame(renderer)
    assert not asked
    moved = played(renderer, steps=1)
    shown = frame(renderer)
    frame(renderer)
    names, selection = moved.info["privileged"]["image_ids"][0], moved.info["selection"][0]
    assert asked == [(name, row.tobytes()) for name, row in zip(names, selection, strict=True)]
    assert (shown == 7).all(axis=-1).sum() >= 2 * 100**2
    assert Renderer("rgb_array", dynamics)._painter._recoveries is None  # type: ignore[union-attr]


def test_the_first_diffusion_seed_of_a_table_in_memory_draws(table: RecoveryTable) -> None:
    recoveries = Recoveries(Dynamics(Scenario(recovery=table)))
    assert (recoveries._seed, recoveries._steps) == (0, 4)


def test_a_line_of_sight_shows_where_users_are() -> None:
    true = np.array([0.3, -1.0, 1.2])
    channels = np.tile(steering_vector(true, 8), (5, 1, 1)) * np.array([1e-5, 1.0, 3.0])[:, None]
    episode = Episode(np.zeros(3, np.int64), np.full(3, 100.0), channels, 0.5)
    np.testing.assert_allclose(np.sin(episode.angles), np.sin(true), atol=0.1)


def test_users_whose_channels_tell_nothing_stand_apart() -> None:
    episode = Episode(np.zeros(4, np.int64), np.full(4, 100.0), np.ones((3, 4, 1), complex), 0.5)
    angles = np.sort(episode.angles)
    assert np.diff([*angles, angles[0] + 2.0 * np.pi]).min() > 1.0


def test_the_beams_that_were_used_are_drawn(dynamics: Dynamics) -> None:
    renderer = Renderer("rgb_array", dynamics)
    moved = played(renderer, probability=1.0)
    view = renderer._views[0]
    assert isinstance(view, View)
    sent = sent_of(replace(moved, beams=np.eye(2)[None, [0, 0, 1]] + 0j), 0, ordered=True)
    patterns = dict(Painter(dynamics)._patterns(view, sent))
    assert sorted(patterns) == [0, 1, 2]
    # One antenna alone hears all directions the same, half of what two can hear.
    for pattern in patterns.values():
        np.testing.assert_allclose(pattern, 0.5)


def test_every_environment_has_its_frame(dynamics: Dynamics) -> None:
    both, alone = Renderer("ansi", dynamics, num_envs=2), Renderer("ansi", dynamics)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before render"):
        both.render()
    state = dynamics.reset([np.random.default_rng(seed) for seed in (4, 0)])
    both.begin(state)
    moved = dynamics.step(state.rows(np.array([1])), np.ones((1, 3, dynamics.bank.width), dtype=bool))
    both.record(moved, [1])
    begun(alone)
    alone.record(moved)
    first, second = (str(one) for one in both.render() or ())
    assert first.startswith("step 0/20")
    assert second == frame(alone)


def test_a_renderer_can_be_copied_and_pickled(dynamics: Dynamics) -> None:
    renderer = Renderer("rgb_array", dynamics)
    played(renderer)
    expected = frame(renderer)
    for other in (copy.deepcopy(renderer), pickle.loads(pickle.dumps(renderer))):  # noqa: S301
        np.testing.assert_array_equal(frame(other), expected)


def test_other_modes_and_missing_parts_are_refused(dynamics: Dynamics, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"render_mode='svg' is not offered; choose one of \('rgb_array', 'human', 'ansi"
    ):
        Renderer("svg", dynamics)
    monkeypatch.setattr("noma_semcom_env.rendering.renderer.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs pygame: pip install 'noma-semcom-env\[render\]'"):
        Renderer("human", dynamics)
    monkeypatch.delitem(sys.modules, "noma_semcom_env.rendering.frame")
    monkeypatch.delitem(sys.modules, "noma_semcom_env.rendering.strokes")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"frames need Pillow: pip install 'noma-semcom-env\[render\]'"):
        Renderer("rgb_array", dynamics)
    played(Renderer("ansi", dynamics))


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return pytest.importorskip("pygame")


def test_a_window_shows_each_step_and_closes(dynamics: Dynamics, pygame: Any) -> None:
    window, picture = Renderer("human", dynamics), Renderer("rgb_array", dynamics)
    assert not pygame.display.get_init()
    for renderer in (window, picture):
        played(renderer)
    assert window.render() is None
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, frame(picture))
    window.close()
    assert not pygame.display.get_init()
    window.close()


@pytest.mark.slow
def test_pytorch_can_be_loaded_beside_a_window() -> None:
    """Where SDL draws by OpenGL, Mesa loads an LLVM, and Triton crashes with it."""
    pytest.importorskip("pygame")
    pytest.importorskip("triton")
    code = (
        "import gymnasium, noma_semcom_env\n"
        "gymnasium.make('NomaSemCom-v0', render_mode='human').reset(seed=0)\n"
        "import triton._C.libtriton\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SDL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=variables)


def test_a_window_closed_by_its_button_stays_closed(dynamics: Dynamics, pygame: Any) -> None:
    renderer = Renderer("human", dynamics)
    begun(renderer)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    played(renderer, steps=2)
    assert not pygame.display.get_init()
    renderer.close()


def test_a_window_that_was_never_opened_closes(dynamics: Dynamics, pygame: Any) -> None:
    Renderer("human", dynamics).close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 us"), (1.5e-6, "1.5 us"), (4.2e-4, "420 us"), (2e-3, "2 ms"), (12.0, "12 s"), (np.inf, "never")],
)
def test_durations_have_their_unit(value: float, text: str) -> None:
    assert seconds(value) == text
