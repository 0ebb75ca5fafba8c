"""Fig. 4: how the three agents learn, what becomes of LPIPS and latency, and who selects how much.

    python -m noma_semcom_benchmarks.fig04 --page docs/figures.md

Reads the trainings of the campaigns "main" (4(a), 4(b)) and "same-image" (4(c)). 4(a): reward of the greedy policy on
validation episodes, with the oracle's line. 4(b): LPIPS and latency while sampling. 4(c): selection ratio by position
in the decoding order, every user sending the same image. Episodes have 20 steps.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Knobs
from noma_semcom_agents.lineup import EVALUATION_SEED
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.roster import find_agent
from noma_semcom_agents.schemes import RandomSelection
from noma_semcom_agents.statistics import (
    area_under_curve,
    common_threshold,
    convergence_difference,
    convergence_step,
    interquartile_mean,
)
from noma_semcom_agents.training import CURVE, Validation
from noma_semcom_benchmarks.pages import (
    UNDECIDED,
    Claim,
    columns,
    judge,
    judge_small,
    make_parser,
    new_figure,
    plot_intervals,
    publish,
    run_figure,
)
from noma_semcom_benchmarks.sweeps import (
    RANDOM,
    Measured,
    Sample,
    Scheme,
    Uplinks,
    conditional_mean,
    learned,
    learned_if_any,
    measure,
    reference,
    sample_of,
    uplinks,
    uplinks_of,
)
from noma_semcom_benchmarks.trainings import AGENTS, SHARED, Point, swept
from noma_semcom_env import Scenario
from noma_semcom_env.recovery.subsets import subset_members

IM, M, PLAIN = (find_agent(name).title for name in AGENTS)
ALIKE: Final = f"{IM}, {M}'s settings"
"""A control: what of the difference between the two is pruning, and what the settings that tuning chose for them."""

MARGIN: Final = 0.05
"""Share of M-PPO's LPIPS that still counts as comparable, and of the way of a curve that counts as standing still."""

_LOOKS: Final = 200
_BEGINNING: Final = 0.1
"""Share of the budget whose rewards do not decide what the picture shows."""


def read_curves(scheme: Scheme) -> dict[int, dict[str, np.ndarray]]:
    """Training seed to the columns of its learning curve."""
    curves = {}
    for seed, run in scheme.runs.items():
        with (run.folder / CURVE).open(newline="") as file:
            rows = list(csv.DictReader(file))
        curves[seed] = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    return curves


def on_grid(curves: Mapping[int, Mapping[str, np.ndarray]], name: str, steps: np.ndarray) -> np.ndarray:
    """(R, n) one column of every run at ``steps``, linear between two looks."""
    rows = []
    for curve in curves.values():
        known = np.isfinite(curve[name])
        rows.append(np.interp(steps, curve["steps"][known], curve[name][known]))
    return np.stack(rows)


def convergence_claims(
    curves: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]],
    random: float,
    budget: int,
    control: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]] | None = None,
) -> tuple[float, dict[str, np.ndarray], list[Claim]]:
    """Threshold, the step at which each run converged by agent, and the verdicts on who is faster.

    Args:
        curves: Title of an agent to its learning curves.
        random: Random-Selection's regret on the validation episodes.
        budget: Environment steps of every run.
        control: IM-PPO with M-PPO's settings, by :data:`ALIKE`; it has no part in the threshold.
    """
    texts = [f"{IM} converges in fewer episodes than {M}", f"{M} converges in fewer episodes than {PLAIN}"]
    finals = {title: np.array([one["regret"][-1] for one in runs.values()]) for title, runs in curves.items()}
    try:
        threshold = common_threshold(random, finals)
    except ValueError as error:
        return np.nan, {}, [Claim(text, UNDECIDED, str(error)) for text in texts]
    reached = {
        title: np.array([convergence_step(one["steps"], one["regret"], threshold) for one in runs.values()])
        for title, runs in {**curves, **(control or {})}.items()
    }
    pairs = [(IM, M), (M, PLAIN)]
    if control:
        pairs.append((ALIKE, M))
        texts.append(f"(ours) with {M}'s settings {IM} converges in fewer episodes than {M}")
    claims = []
    for text, (first, second) in zip(texts, pairs, strict=True):
        seeds = [list({**curves, **(control or {})}[title]) for title in (first, second)]
        common = sorted(set(seeds[0]) & set(seeds[1]))
        pair = [reached[t][[own.index(s) for s in common]] for t, own in zip((first, second), seeds, strict=True)]
        gap, *censored = convergence_difference(pair[0], pair[1], budget)
        claim = judge(text, {"sooner by": gap}, " % of the budget", 100.0)
        numbers = f"{claim.numbers}; of {len(common)} runs {censored[0]} and {censored[1]} never got there"
        claims.append(Claim(text, claim.verdict, numbers))
    return threshold, reached, claims


def reward_claims(measured: Measured) -> list[Claim]:
    """The verdicts on final rewards on the test images."""
    rewards = {title: measured.sample(title, "reward") for title in (IM, M, PLAIN)}
    return [
        judge(f"{title} ends with a higher reward than {PLAIN}", {"reward": (rewards[title] - rewards[PLAIN]).mean()})
        for title in (IM, M)
    ]


def settling_claims(curves: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]], budget: int) -> list[Claim]:
    """Whether LPIPS and latency settle: the drift from the last but one fifth of the budget to the last.

    The drift is told as a share of the range that the mean curve went through.
    """
    steps = np.linspace(0.0, budget, 5 * (_LOOKS // 5))
    claims = []
    for name, words in (("lpips", "LPIPS"), ("latency_s", "latency")):
        gaps = {}
        for title in (IM, M):
            fifths = on_grid(curves[title], name, steps).reshape(len(curves[title]), 5, -1).mean(axis=2)
            whole = np.ptp(on_grid(curves[title], name, steps).mean(axis=0))
            gaps[title] = Sample((fifths[:, 4:] - fifths[:, 3:4]) / max(whole, 1e-12), tuple(curves[title])).mean()
        claims.append(judge_small(f"{words} of {IM} and {M} converges", gaps, MARGIN, " % of its range", 100.0))
    return claims


def draw_4ab(
    curves: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]], levels: Mapping[str, float], budget: int
) -> tuple[Any, Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """Pictures and data of 4(a) and 4(b)."""
    steps = np.linspace(0.0, budget, _LOOKS)
    length = Scenario().episode_length
    first, second = new_figure(7.6, 4.6), new_figure(10.0, 4.2)
    axes, panels = first.subplots(), second.subplots(1, 2)
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    settled: list[float] = []
    for number, (title, runs) in enumerate(curves.items()):
        alike = title in (IM, M, PLAIN, ALIKE)
        grid = steps if alike else np.linspace(0.0, max(one["steps"][-1] for one in runs.values()), _LOOKS)
        for place, name, panel in (
            (0, "validation_reward", axes),
            (1, "lpips", panels[0]),
            (1, "latency_s", panels[1]),
        ):
            if place == 1 and title not in (IM, M):
                continue
            values = on_grid(runs, name, grid) * (1e3 if name == "latency_s" else 1.0)
            middle = interquartile_mean(values, axis=0)
            if panel is axes:
                settled += [float(one) for one in middle[grid >= _BEGINNING * budget]]
            panel.plot(grid, middle, color=f"C{number}", label=f"{title}, {len(runs)} runs")
            panel.fill_between(
                grid, values.min(axis=0), values.max(axis=0), color=f"C{number}", alpha=0.15, linewidth=0
            )
            for step, mean, low, high in zip(grid, middle, values.min(axis=0), values.max(axis=0), strict=True):
                row = {"agent": title, "measure": name.replace("_s", "_ms"), "steps": round(step)}
                rows[place].append(row | {"episodes": step / length, "mean": mean, "least": low, "most": high})
    for name, level in levels.items():
        axes.axhline(level, color="0.4", linestyle="--" if name == "Oracle" else ":", label=name)
    # Beams that are still guessed cost many times what there is to gain later.
    least, most = min(settled), max(*settled, *levels.values())
    shown = (least - 0.1 * (most - least), most + 0.1 * (most - least))
    axes.set(xlabel="environment steps", ylabel="mean reward of a step", xlim=(0, None), ylim=shown)
    scales: Any = (lambda x: x / length, lambda x: x * length)
    axes.secondary_xaxis("top", functions=scales).set_xlabel("episodes")
    axes.set_title("Greedy policy on validation images: interquartile mean and range of runs", fontsize=10)
    for panel, label in zip(panels, ("LPIPS", "latency, ms"), strict=True):
        panel.set(xlabel="environment steps", ylabel=f"{label}, while sampling")
    for panel in (axes, *panels):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return first, second, *rows


def make_4ab(arguments: argparse.Namespace) -> None:
    """4(a) and 4(b)."""
    schemes = [learned(find_agent(name).title, Point(name), arguments.root, "main", arguments.quick) for name in AGENTS]
    curves = {scheme.name: read_curves(scheme) for scheme in schemes}
    some = next(iter(schemes[0].runs.values()))
    budget = int(some.record["request"]["steps"])
    validation = Validation(some.knobs, some.record["validation"]["images"])
    random = validation.regret(validation.reward(RandomSelection(), {"prune": False}))
    alike = learned_if_any(ALIKE, Point("im-ppo", settings=SHARED), arguments.root, "alike")
    control = {one.name: read_curves(one) for one in alike}
    threshold, reached, faster = convergence_claims(curves, random, budget, control)
    measured = measure([*schemes, *alike], {"images": arguments.images}, arguments.episodes)
    table = []
    for scheme in (*schemes, *alike):
        own = {**curves, **control}[scheme.name]
        areas = [area_under_curve(one["steps"], one["regret"], budget) for one in own.values()]
        row = {
            "agent": scheme.name,
            "runs": len(scheme.runs),
            **columns("reward", measured.sample(scheme.name, "reward").mean()),
        }
        row |= columns("regret", measured.regret(scheme.name))
        for name in ("lpips", "latency_s"):
            row |= columns(name, measured.sample(scheme.name, name).mean())
        steps = reached.get(scheme.name, np.full(len(areas), np.inf))
        middle = float(np.median(steps))
        row |= {"converged_at": middle if np.isfinite(middle) else None, "censored": int(np.isinf(steps).sum())}
        table.append(row | {"area_under_regret": float(interquartile_mean(np.array(areas)))})
    runs = min(len(scheme.runs) for scheme in schemes)
    drawn = {**curves, **control}
    # The longer curve takes no part in any comparison.
    for longer in learned_if_any(PLAIN, Point("plain-ppo", budgets=3), arguments.root, "long"):
        drawn[f"{PLAIN}, longer"] = read_curves(longer)
    levels = {"Oracle": validation.best, "threshold of convergence": validation.best * (1.0 + threshold)}
    first, second, rewards, terms = draw_4ab(drawn, {k: v for k, v in levels.items() if np.isfinite(v)}, budget)
    publish("fig04a", arguments, rewards, [*faster, *reward_claims(measured)], first, runs, table)
    lpips = {title: measured.sample(title, "lpips") for title in (IM, M)}
    level = lpips[M].mean().value
    comparable = judge_small(
        f"{IM} recovers about as accurately as {M} although it prunes",
        {"LPIPS": ((lpips[IM] - lpips[M]) * (1.0 / level)).mean()},
        MARGIN,
        f" % of {M}'s",
        100.0,
    )
    publish("fig04b", arguments, terms, [*settling_claims(curves, budget), comparable], second, runs, table[:2])


class Dealt:
    """Replays what a policy selected, with each step's selections dealt out to the users at random.

    Users that send the same image are exchangeable but for their links, so this is the same policy blind to them. It
    serves one rollout over the episodes that were recorded.

    Args:
        acts: What the policy did in E episodes.
        seed: Of the dealing, for each episode and step anew.
    """

    name = "dealt at random"

    def __init__(self, acts: Uplinks, seed: int = EVALUATION_SEED) -> None:
        self._steps = iter(np.moveaxis(np.random.default_rng(seed).permuted(acts.subset, axis=2), 1, 0))

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(E, K * F) int8 of the next step; draws nothing."""
        subsets = next(self._steps)
        width = observation["action_mask"].shape[1] // subsets.shape[1]
        return subset_members(subsets, width).reshape(len(subsets), -1).astype(np.int8)


def dealt(scheme: Scheme, acts: Sequence[Uplinks], knobs: Knobs, episodes: int) -> list[Uplinks]:
    """What comes of each run's selections dealt out at random, beams and order solved anew.

    Args:
        scheme: Its runs.
        acts: What each of them did, :func:`~noma_semcom_benchmarks.sweeps.uplinks_of` with the same arguments.
        knobs: Of the environment, ``same_image`` among them.
        episodes: E.
    """
    blind = [replace(one, policy=Dealt(own)) for one, own in zip(scheme.contenders.values(), acts, strict=True)]
    return [uplinks(one, knobs, episodes) for one in blind]


def by_place(scheme: Scheme, acts: Sequence[Uplinks]) -> list[Sample]:
    """The selected share at each position in the decoding order."""
    ordered = [np.take_along_axis(one.share, one.order, axis=2) for one in acts]
    return [sample_of(scheme, [one[..., place] for one in ordered]) for place in range(ordered[0].shape[2])]


def order_claims(scheme: Scheme, acts: Sequence[Uplinks], blind: Sequence[Uplinks]) -> list[Claim]:
    """The verdicts on who selects how much; ``blind`` is :func:`dealt`.

    The solver decodes early whoever has little to send, so some of the difference comes about however selections are
    dealt out: a policy that minds the link has more of it than itself dealt at random.
    """
    places, control = by_place(scheme, acts), by_place(scheme, blind)
    users = len(places)
    later = {f"{p + 2} less {p + 1}": (places[p + 1] - places[p]).mean() for p in range(users - 1)}
    whole = {"last less first": (places[-1] - places[0]).mean()}
    # Silent users stand last by definition, so the claim is looked at among steps in which everyone sends as well.
    everyone: list[np.ndarray] = [np.all(one.sends, axis=2) for one in acts]
    ordered = [np.take_along_axis(one.share, one.order, axis=2) for one in acts]
    among = {
        f"{p + 2} less {p + 1}": conditional_mean([one[..., p + 1] - one[..., p] for one in ordered], everyone)
        for p in range(users - 1)
    }
    more = (places[-1] - places[0]) - (control[-1] - control[0])
    return [
        judge("users that are decoded earlier select fewer features", later | whole, " points", 100.0),
        judge("the same among steps in which every user sends", among, " points", 100.0),
        judge(
            "(ours) the difference is larger than with the same selections dealt out to the users at random",
            {"last less first": more.mean()},
            " points",
            100.0,
        ),
    ]


def make_4c(arguments: argparse.Namespace) -> None:
    """4(c)."""
    knobs = {"same_image": True}
    scheme = learned(IM, swept("im-ppo", knobs), arguments.root, "same-image", arguments.quick)
    where = {**knobs, "images": arguments.images}
    acts = uplinks_of(scheme, where, arguments.episodes)
    blind = dealt(scheme, acts, where, arguments.episodes)
    plain = reference("random", RANDOM)
    shares = {
        "share": by_place(scheme, acts),
        "dealt_at_random": by_place(scheme, blind),
        "random_selection": by_place(plain, uplinks_of(plain, where, arguments.episodes)),
    }
    everyone: list[np.ndarray] = [np.all(one.sends, axis=2) for one in acts]
    ordered = [np.take_along_axis(one.share, one.order, axis=2) for one in acts]
    users = len(shares["share"])
    active = [conditional_mean([one[..., place] for one in ordered], everyone) for place in range(users)]
    rows = []
    for place in range(users):
        row: dict[str, Any] = {"position": place + 1}
        for name, samples in shares.items():
            row |= columns(name, samples[place].mean())
        rows.append(row | columns("share_if_all_send", active[place]))
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    x = list(range(1, users + 1))
    styles = {
        "share": {"color": "C0", "label": "all steps"},
        "dealt_at_random": {"color": "C2", "label": "the same, dealt out at random", "linestyle": "--"},
        "random_selection": {"color": "0.5", "label": RANDOM, "linestyle": "--"},
    }
    for name, samples in shares.items():
        plot_intervals(axes, x, [one.mean() for one in samples], **styles[name])
    plot_intervals(axes, x, active, color="C1", label="steps in which every user sends")
    axes.set(xlabel="position in the decoding order", ylabel="selected share of the features", xticks=x)
    axes.set_title(f"{IM}, the same image for all users, {len(scheme.runs)} runs", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    publish("fig04c", arguments, rows, order_claims(scheme, acts, blind), figure, len(scheme.runs))


def make(arguments: argparse.Namespace) -> None:
    """The parts that were asked for."""
    if "ab" in arguments.parts:
        make_4ab(arguments)
    if "c" in arguments.parts:
        make_4c(arguments)


def main() -> None:
    """Draw the figure."""
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=("ab", "c"), default=("ab", "c"), help="4(a) and 4(b), 4(c)")
    run_figure(make, parser)


if __name__ == "__main__":
    main()
