"""Verdicts of single figures: what they rest on, and that they can come out either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_agents.evaluation import Contender, Evaluation, Record, rollout
from noma_semcom_agents.lineup import EVALUATION_SEED
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.schemes import RandomSelection
from noma_semcom_benchmarks import fig04, fig05b, fig05c, fig06
from noma_semcom_benchmarks.pages import AGREES, DIFFERS, UNDECIDED, Claim
from noma_semcom_benchmarks.sweeps import (
    ALL,
    JTSC,
    LOCATION,
    RANDOM,
    Measured,
    Sample,
    Scheme,
    Uplinks,
    luck_of_the_draw,
    single,
    uplinks_of,
)
from noma_semcom_env import Scenario, load_table

SAME = {"same_image": True, "episode_length": 4}


class ByLink:
    """Each user sends its first features: one if its link is the best, and ``rest`` otherwise; 0 looks at no link."""

    name = "by link"

    def __init__(self, rest: int, best: int) -> None:
        self.rest, self.best = rest, best

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        snr = observation["snr"]
        count = np.where(snr == snr.max(axis=1, keepdims=True), self.best, self.rest)
        mask = observation["action_mask"].reshape(*snr.shape, -1)
        chosen: np.ndarray = ((mask.cumsum(axis=2) <= count[..., None]) & (mask > 0)).reshape(len(snr), -1)
        return chosen.astype(np.int8)


def order_verdicts(policy: Any, table_path: str, episodes: int = 40) -> list[Claim]:
    scheme = Scheme("x", dict.fromkeys(range(5), Contender(policy, {"prune": False})), {})
    knobs = {**SAME, "images": table_path}
    acts = uplinks_of(scheme, knobs, episodes)
    return fig04.order_claims(scheme, acts, fig04.dealt(scheme, acts, knobs, episodes))


def test_a_policy_is_judged_against_itself_blind_to_the_link(table_path: str) -> None:
    # The same for everyone: nothing is sorted, and dealing it out changes nothing. Against Random-Selection, whose
    # shares vary, it would be said to do less than the order alone does.
    alike = order_verdicts(ByLink(2, 2), table_path)
    assert alike[2].verdict == UNDECIDED
    assert alike[2].numbers == "last less first: 0 points (0 to 0)"
    # Chance is blind to the link, and so no more than itself dealt out.
    assert order_verdicts(RandomSelection(), table_path)[2].verdict == UNDECIDED
    # Who is heard best sends least, and is decoded first for both reasons.
    assert order_verdicts(ByLink(2, 1), table_path)[2].verdict == AGREES
    assert order_verdicts(ByLink(1, 2), table_path)[2].verdict == DIFFERS


def test_dealing_out_keeps_each_steps_selections(table_path: str) -> None:
    scheme = single("x", Contender(RandomSelection(), {"prune": False}))
    knobs = {**SAME, "images": table_path}
    acts = uplinks_of(scheme, knobs, 6)
    (blind,) = fig04.dealt(scheme, acts, knobs, 6)
    np.testing.assert_array_equal(np.sort(blind.subset, axis=2), np.sort(acts[0].subset, axis=2))
    np.testing.assert_array_equal(blind.image_index, acts[0].image_index)
    assert (blind.subset != acts[0].subset).any()


def test_the_luck_of_the_draw_takes_most_of_the_noise_off() -> None:
    knobs = {"images": "street-validation", "transmission": "distance", "num_users": 2}
    luck = luck_of_the_draw(knobs, 64)
    by_image = np.nanmean(load_table("street-validation").mean, axis=1)
    assert luck.values.shape == (1, 64)
    assert abs(luck.values.mean()) < 3 * by_image.std() / np.sqrt(64 * 2)  # an image stays for an episode
    record, faced = rollout(Contender(RandomSelection(), {"prune": False}), knobs, 64, EVALUATION_SEED)
    np.testing.assert_allclose(
        luck.values[0], by_image[faced["image_index"]].mean(axis=(1, 2)) - by_image.mean(), atol=1e-12
    )
    lpips = record.lpips.mean(axis=1)
    assert (lpips - luck.values[0]).std() < 0.6 * lpips.std()


def of_lpips(means: dict[str, float], luck: np.ndarray) -> Measured:
    """Schemes whose LPIPS is a mean and the luck of the draw, with a latency that grows with what is sent."""
    rng = np.random.default_rng(7)
    records, schemes = {}, {}
    for name, mean in means.items():
        runs = (0, 1, 2) if name in (JTSC, LOCATION) else (-1,)
        for seed in runs:
            lpips = (mean + luck + 1e-4 * rng.normal(size=len(luck)))[:, None]
            one = np.ones_like(lpips)
            records[f"{name}, {seed}"] = Record(f"{name}, {seed}", -lpips, lpips, 1e-3 / lpips, one, one)
        named = {seed: Contender(RandomSelection(), label=f"{name}, {seed}") for seed in runs}
        schemes[name] = Scheme(name, named, {})
    return Measured(Evaluation(records, np.ones((len(luck), 1)), 0), schemes, Scenario())


def test_hard_images_at_one_number_of_users_make_no_trend() -> None:
    rng = np.random.default_rng(0)
    drawn = {2: rng.normal(0.02, 0.05, 256), 6: rng.normal(-0.02, 0.03, 256)}
    means = {JTSC: 0.4, ALL: 0.35, RANDOM: 0.5, LOCATION: 0.42}
    luck = {users: Sample(one[None]) for users, one in drawn.items()}
    points = {2: of_lpips(means, drawn[2]), 6: of_lpips({**means, JTSC: 0.41}, drawn[6])}
    found = {one.text: one.verdict for one in fig05b.claims(points, luck)}
    assert found["Random-Selection's LPIPS shows no clear trend"] == AGREES
    assert found["JTSC's LPIPS degrades with more users"] == AGREES
    points[6] = of_lpips({**means, JTSC: 0.39, RANDOM: 0.52}, drawn[6])
    found = {one.text: one.verdict for one in fig05b.claims(points, luck)}
    assert found["Random-Selection's LPIPS shows no clear trend"] == DIFFERS
    assert found["JTSC's LPIPS degrades with more users"] == DIFFERS


SCHEME = Scheme(JTSC, dict.fromkeys(range(5), Contender(RandomSelection())), {})


def by_power(first: list[float], *shares: list[float]) -> dict[float, list[Uplinks]]:
    """Points over rising power: how often the varied user is first, and how much each of the three selects."""
    rng, points = np.random.default_rng(0), {}
    for number, often in enumerate(first):
        acts = []
        for _ in range(5):
            share = np.stack([np.full((40, 5), one[number]) for one in shares], axis=2)
            share += 0.001 * rng.normal(size=share.shape)
            place = np.zeros(share.shape, dtype=int)
            place[..., fig05c.VARIED] = np.where(np.arange(200).reshape(40, 5) < often * 200, 0, 2)
            zeros = np.zeros_like(place)
            acts.append(Uplinks(share, place, place >= 0, zeros, zeros, zeros))
        points[13.0 + number] = acts
    return points


def test_one_of_the_others_may_be_either() -> None:
    first, varied = [0.0, 0.1, 0.9, 1.0], [0.4, 0.5, 0.3, 0.4]
    for shares in (([0.3, 0.3, 0.3, 0.4], [0.3] * 4), ([0.3] * 4, [0.3, 0.3, 0.3, 0.4])):
        found = fig05c.claims(SCHEME, by_power(first, *shares, varied))
        assert [one.verdict for one in found] == [AGREES] * 5
        assert "first in 90% of the steps at 15 dBm" in found[2].numbers
    neither = fig05c.claims(SCHEME, by_power(first, [0.3] * 4, [0.3] * 4, varied))
    assert neither[-1].verdict == DIFFERS or "SU-1 more: cannot tell" in neither[-1].numbers
    assert neither[-1].verdict != AGREES
    both = fig05c.claims(SCHEME, by_power(first, [0.3, 0.3, 0.3, 0.4], [0.3, 0.3, 0.3, 0.4], varied))
    assert both[-1].verdict == DIFFERS


@pytest.mark.parametrize(("first", "word"), [([0.0, 0.1, 0.3, 0.5], "never"), ([0.6, 0.7, 0.9, 1.0], "always")])
def test_without_a_change_of_order_nothing_is_told_of_before_and_after(first: list[float], word: str) -> None:
    found = fig05c.claims(SCHEME, by_power(first, [0.3] * 4, [0.3] * 4, [0.4, 0.5, 0.3, 0.4]))
    assert [one.verdict for one in found] == [AGREES, UNDECIDED]
    assert found[1].numbers.startswith(f"{word} decoded first: in {first[0]:.0%} of the steps at 13 dBm")


def test_a_change_at_the_last_power_leaves_what_follows_open() -> None:
    found = fig05c.claims(SCHEME, by_power([0.0, 0.1, 0.9], [0.3] * 3, [0.3] * 3, [0.4, 0.5, 0.3]))
    assert [one.verdict for one in found[:4]] == [AGREES, AGREES, AGREES, UNDECIDED]
    assert len(found) == 5


class Counted:
    """Stands in for the recovery: LPIPS 1 / steps plus the number of what is sent, and counts what it is asked."""

    def __init__(self, limit: int | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self.limit = limit

    def __call__(self, models: str, steps: int) -> Any:
        def distances(features: Any, raw: Any, selection: np.ndarray, seeds: tuple[int, ...], _: Any) -> np.ndarray:
            if self.limit is not None and len(self.asked) >= self.limit:
                raise KeyboardInterrupt
            self.asked += [(steps, int(one)) for one in selection.sum(axis=1)]
            return np.repeat(1.0 / steps + selection.sum(axis=1, keepdims=True), len(seeds), axis=1)

        return type("Recovery", (), {"distances": staticmethod(distances)})


def test_recoveries_are_kept_and_go_on_where_they_were_cut_off(
    table_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fig06, "PerceptualDistance", lambda: None)
    monkeypatch.setattr(fig06, "_AT_ONCE", 2)
    table = load_table(table_path)
    images, subsets = np.array([[0, 1, 2], [0, 1, 3]]), np.array([[1, 3, 3], [1, 2, 0]])
    cut = Counted(limit=2)
    monkeypatch.setattr(fig06, "load_recovery", cut)
    with pytest.raises(KeyboardInterrupt):
        fig06.Recoveries(table, (0, 1), tmp_path).lpips(images, subsets, 4)
    assert len(cut.asked) == 2
    rest = Counted()
    monkeypatch.setattr(fig06, "load_recovery", rest)
    found = fig06.Recoveries(table, (0, 1), tmp_path).lpips(images, subsets, 4)
    assert len(rest.asked) == 3  # five distinct pairs, two of them known
    np.testing.assert_allclose(found, 0.25 + np.array([[1, 2, 2], [1, 1, 0]]))
    again = fig06.Recoveries(table, (0, 1), tmp_path)
    np.testing.assert_array_equal(again.lpips(images, subsets, 4), found)
    assert len(rest.asked) == 3
    fig06.Recoveries(table, (0,), tmp_path).lpips(images, subsets, 4)  # other diffusion seeds are another matter
    again.lpips(images, subsets, 5)  # and so is another number of steps
    assert len(rest.asked) == 13
    assert {one.suffix for one in tmp_path.iterdir()} == {".npz"}
    with pytest.raises(ValueError, match="read from no file"):
        fig06.Recoveries(replace(table, path=None), (0,), tmp_path).path(4)


def test_what_is_recovered_is_distinct_images_and_few_runs() -> None:
    images = np.random.default_rng(0).integers(0, 9, (20, 3))
    cells = fig06.draw_cells(images, 6)
    chosen = images[cells[:, 0], cells[:, 1]]
    assert len(set(chosen.tolist())) == len(chosen) == 6
    np.testing.assert_array_equal(cells, fig06.draw_cells(images, 6))
    assert len(fig06.draw_cells(images, 100)) == 9
    many = Scheme("x", dict.fromkeys(range(8), Contender(RandomSelection())), dict.fromkeys(range(8)))  # type: ignore[arg-type]
    few = fig06.draw_runs(many, 3)
    assert list(few.contenders) == list(few.runs) == sorted(few.contenders)
    assert len(few.contenders) == 3


def test_a_full_run_takes_minutes() -> None:
    pairs = (fig06.DRAWN_RUNS + 1) * fig06.DRAWN_IMAGES
    assert pairs * sum(fig06.STEPS) * fig06.DIFFUSION_SEEDS * 0.033 < 15 * 60
    assert set(fig06.SHOWN) <= set(fig06.STEPS)
