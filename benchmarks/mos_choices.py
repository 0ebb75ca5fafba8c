"""The measurements behind the assumptions of the mixture's scenarios, on validation items.

    python -m noma_semcom_benchmarks.mos_choices

What is assumed and not derived (``cbr_weight``, ``latency_ref_s``, ``mask_outage``, ``undecodable_penalty``,
``psnr_ref_db``, ``clip_ceiling``) is varied, and what comes of it is measured by the environments' own dynamics. A
single user's items all meet the same evenly spaced SNRs and equally likely fades, so that nothing but the items is left
to chance; the uplink is played, its users dropped and faded anew in each episode. Intervals are 95 % bootstrap
intervals, over pictures with all their items or over episodes, and paired where differences are meant. The gain of the
best candidate is that of the one which the same data found best, so that it flatters a little.

The text gets alpha * CBR = 0.004 of the source samples wherever bandwidth ratios are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gymnasium as gym
import numpy as np
from rich.progress import track

from noma_semcom_agents.evaluation import Interval
from noma_semcom_agents.mixture_noma_references import FixedUplink
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_benchmarks.mos_report import add_output, parse_output
from noma_semcom_benchmarks.mos_resampling import Resampling
from noma_semcom_benchmarks.mos_scenes import SNRS_DB
from noma_semcom_env import MixtureNomaScenario, MixtureScenario
from noma_semcom_env.mixture.budget import fade_quantiles_db
from noma_semcom_env.mixture.table import CEILING_TABLE, load_mixture_table
from noma_semcom_env.mixture_dynamics import MixtureDynamics, Valued

STEM: Final = "mos_choices"
UPLINK: Final = "MixtureOfSemanticsNoma-v0"
TEXT_CBR: Final = 0.004
"""alpha * CBR wherever bandwidth ratios are compared."""

CBR_WEIGHTS: Final = (0.0, 0.02, 0.04, 0.08, 0.16)
CBRS: Final = (0.02, 0.032, 0.048, 0.064, 0.08, 0.096, 0.12)
LATENCIES_S: Final = (0.01, 0.03, 0.1, 0.3)
UPLINK_CBRS: Final = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12)
OUTAGES: Final = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5)
PENALTIES: Final = (0.0, 0.05, 0.1, 0.2, 0.5)
ALPHAS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
MIDDLING_ALPHA: Final = 0.05
"""At which qualities are looked at, and at which outages are compared."""

PSNR_REFS_DB: Final = (30.0, 35.0, 40.0, 45.0)
PSNR_SPAN_DB: Final = (20.0, 35.0)
COMPARED: Final = (CEILING_TABLE, "street-test")
"""Tables whose saturated CLIP-RONI stands beside that of the asked one."""

BEST: Final = "best"
_OF_ITEMS: Final = ("reward", "psnr_roi_db", "clip_roni", "region_lost", "mask_not_sent", "mask_symbols")
_WIDTH: Final = 180
_DEFAULTS: Final = {**vars(MixtureScenario()), "latency_ref_s": MixtureNomaScenario().latency_ref_s}


@dataclass(frozen=True)
class Effort:
    """How finely is measured.

    Attributes:
        snrs: SNRs that stand for the range of the scenario.
        fades: Equally likely fades; a multiple of 100 meets outages of whole percents exactly.
        episodes: Of the uplink.
    """

    snrs: int = 20
    fades: int = 400
    episodes: int = 64


@dataclass(frozen=True)
class Measured:
    """One number.

    Attributes:
        choice: Field of the scenario.
        value: Value of the field, the name of a table, or :data:`BEST` of the values.
        at: Where it was measured; :data:`BEST` of the candidates.
        quantity: What was measured.
        found: The number and its interval; NaN where it has none.
    """

    choice: str
    value: float | str
    at: str
    quantity: str
    found: Interval


def even(low: float, high: float, count: int) -> np.ndarray:
    """(count,) middles of equal parts of a range."""
    return low + (high - low) * (np.arange(count) + 0.5) / count


def send(
    knobs: Mapping[str, Any], alpha: np.ndarray | float, cbr: np.ndarray | float, snr_db: np.ndarray, effort: Effort
) -> Valued:
    """What fixed choices come to over every item, SNR, CBR and fade.

    Args:
        knobs: Fields of the scenario of a single user.
        alpha: Number or (C,).
        cbr: Number or (C,).
        snr_db: (S,).
        effort: Number of fades.

    Returns:
        Arrays (I, S, C, F).
    """
    dynamics = MixtureDynamics(MixtureScenario.of(None, knobs))
    mean_db = np.asarray(snr_db)[:, None, None]
    fades_db = fade_quantiles_db(dynamics.scenario.channel, effort.fades)
    share, ratio = (np.atleast_1d(one)[:, None] for one in (alpha, cbr))
    rows = np.arange(len(dynamics.items))[:, None, None, None]
    return dynamics.value(rows, mean_db, mean_db + fades_db, share, ratio, np.zeros(1, dtype=np.int64))


def by_item(done: Valued) -> dict[str, np.ndarray]:
    """(I,) mean of each quantity over what an item met."""
    found = {
        "reward": done.reward,
        "psnr_roi_db": done.quality.psnr_roi_db,
        "clip_roni": done.quality.clip_roni,
        "region_lost": ~done.mask_received | (done.split.roi == 0),
        "mask_not_sent": ~done.split.mask_sent,
        "mask_symbols": done.split.mask,
    }
    return {name: np.asarray(value, dtype=np.float64).mean(axis=(1, 2, 3)) for name, value in found.items()}


def pictures_of(images: str) -> Resampling:
    """The bootstrap over the pictures of an image set."""
    return Resampling(load_mixture_table(images).items.picture)


def over_range(effort: Effort) -> np.ndarray:
    """(S,) SNRs in dB that stand for the scenario's range."""
    return even(*MixtureScenario().snr_range_db, effort.snrs)


def compare(
    choice: str, rewards: Mapping[float, np.ndarray], candidates: Sequence[float], name: str, over: Resampling
) -> Iterator[Measured]:
    """Rewards of candidates by value of a field, which is best, and how much better it is than either end.

    Args:
        choice: The field.
        rewards: Value of the field to (C, n) rewards of the candidates.
        candidates: (C,) ascending.
        name: Of what they are.
        over: Bootstrap over the n.
    """
    for value, reward in rewards.items():
        for candidate, one in zip(candidates, reward, strict=True):
            yield Measured(choice, value, f"{name} {candidate:g}", "reward", over.interval(one))
        best = over.best(reward)
        among = Interval(*(candidates[place] for place in (best.place, best.low, best.high)))
        yield Measured(choice, value, BEST, name, among)
        for end in (0, -1):
            gain = over.interval(reward[best.place] - reward[end])
            yield Measured(choice, value, BEST, f"reward less that of {name} {candidates[end]:g}", gain)


def measure_cbr_weight(images: str, effort: Effort) -> Iterator[Measured]:
    """Rewards of fixed bandwidth ratios by what they cost."""
    snr_db, controls = over_range(effort), ("alpha", "cbr")
    rewards = {}
    for weight in CBR_WEIGHTS:
        knobs = {"images": images, "controls": controls, "cbr_weight": weight}
        rewards[weight] = np.stack(
            [by_item(send(knobs, TEXT_CBR / cbr, cbr, snr_db, effort))["reward"] for cbr in CBRS]
        )
    yield from compare("cbr_weight", rewards, CBRS, "CBR", pictures_of(images))


def play(knobs: Mapping[str, Any], cbr: float, episodes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """(E,) mean reward, quality and latency of the uplink with the same bandwidth ratio for every user.

    Args:
        knobs: Fields of the scenario of the uplink.
        cbr: Bandwidth ratio, of which :data:`TEXT_CBR` is the text's.
        episodes: E.
        seed: Of the first episode; episode i is seeded ``seed + i``.
    """
    env: Any = gym.make_vec(UPLINK, episodes, vectorization_mode="vector_entry_point", **knobs)
    policy = FixedUplink(env.unwrapped.dynamics, TEXT_CBR / cbr, cbr)
    observation, info = env.reset(seed=seed)
    found: dict[str, list[np.ndarray]] = {"reward": [], "quality": [], "latency_s": []}
    for _ in range(env.unwrapped.scenario.episode_length):
        observation, reward, _, _, info = env.step(policy.act(observation, info))
        found["reward"].append(reward)
        found["quality"].append(info["quality"].mean(axis=-1))
        found["latency_s"].append(info["latency_s"])
    env.close()
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def measure_latency_ref(images: str, effort: Effort) -> Iterator[Measured]:
    """Rewards of fixed bandwidth ratios in the uplink by the reference latency, and what they are made of."""
    over, rewards = Resampling(np.arange(effort.episodes)), {}
    jobs = [(reference, cbr) for reference in LATENCIES_S for cbr in UPLINK_CBRS]
    played = {
        (reference, cbr): play({"images": images, "latency_ref_s": reference}, cbr, effort.episodes)
        for reference, cbr in track(jobs, "latency_ref_s")
    }
    for reference in LATENCIES_S:
        rewards[reference] = np.stack([played[reference, cbr]["reward"] for cbr in UPLINK_CBRS])
    yield from compare("latency_ref_s", rewards, UPLINK_CBRS, "CBR", over)
    for name in ("quality", "latency_s"):
        for (reference, cbr), found in played.items():
            yield Measured("latency_ref_s", reference, f"CBR {cbr:g}", name, over.interval(found[name]))


def measure_mask_outage(images: str, effort: Effort) -> Iterator[Measured]:
    """What a safer or bolder rate of the mask comes to over Rayleigh fading, by SNR and over the range."""
    cbr = np.array(MixtureScenario().cbr_values)
    low, high = MixtureScenario().snr_range_db
    places = {f"SNR {snr:g} dB": np.array([snr]) for snr in SNRS_DB}
    places[f"SNR {low:g} to {high:g} dB"] = over_range(effort)
    usual, over = OUTAGES.index(_DEFAULTS["mask_outage"]), pictures_of(images)
    for at, snr_db in places.items():
        found = []
        for outage in OUTAGES:
            knobs = {"images": images, "channel": "rayleigh", "mask_outage": outage}
            found.append(by_item(send(knobs, MIDDLING_ALPHA, cbr, snr_db, effort)))
            for name in _OF_ITEMS:
                yield Measured("mask_outage", outage, at, name, over.interval(found[-1][name]))
        reward = np.stack([one["reward"] for one in found])
        best = over.best(reward)
        among = Interval(*(OUTAGES[place] for place in (best.place, best.low, best.high)))
        yield Measured("mask_outage", BEST, at, "outage", among)
        gain = over.interval(reward[best.place] - reward[usual])
        yield Measured("mask_outage", BEST, at, f"reward less that of {OUTAGES[usual]:g}", gain)


def measure_penalty(images: str, effort: Effort) -> Iterator[Measured]:
    """Whether the penalty moves the best alpha, and what CLIP-RONI alone loses without a text."""
    cbr, snr_db, over = np.array(MixtureScenario().cbr_values), over_range(effort), pictures_of(images)
    rewards = {}
    for penalty in PENALTIES:
        knobs = {"images": images, "undecodable_penalty": penalty}
        rewards[penalty] = np.stack([by_item(send(knobs, alpha, cbr, snr_db, effort))["reward"] for alpha in ALPHAS])
    yield from compare("undecodable_penalty", rewards, ALPHAS, "alpha", over)
    usual, awgn = _DEFAULTS["undecodable_penalty"], {"images": images, "channel": "awgn"}
    heard, silent = (by_item(send(awgn, alpha, cbr, snr_db, effort))["clip_roni"] for alpha in (MIDDLING_ALPHA, 0.0))
    weigh = MixtureDynamics(MixtureScenario.of(None, awgn)).worth_terms
    worth = weigh(np.zeros_like(heard), heard - silent, np.zeros_like(heard))[1]
    for at, quantity, values in (
        (f"AWGN, alpha {MIDDLING_ALPHA:g}", "clip_roni", heard),
        ("AWGN, alpha 0", "clip_roni", silent),
        (f"AWGN, alpha {MIDDLING_ALPHA:g} less 0", "clip_roni", heard - silent),
        (f"AWGN, alpha {MIDDLING_ALPHA:g} less 0", "reward of clip_roni", worth),
    ):
        yield Measured("undecodable_penalty", usual, at, quantity, over.interval(values))


def measure_psnr_ref(images: str, effort: Effort) -> Iterator[Measured]:
    """How PSNR-ROI is distributed over AWGN, and how much of it lies above a reference."""
    cbr, over = np.array(MixtureScenario().cbr_values), pictures_of(images)
    knobs, at = {"images": images, "channel": "awgn"}, f"AWGN, alpha {MIDDLING_ALPHA:g}"
    psnr = send(knobs, MIDDLING_ALPHA, cbr, over_range(effort), effort).quality.psnr_roi_db
    mean = psnr.mean(axis=(1, 2, 3))
    for reference in PSNR_REFS_DB:
        above = (psnr > reference).mean(axis=(1, 2, 3))
        yield Measured("psnr_ref_db", reference, at, "share above it", over.interval(above))
        term = _DEFAULTS["psnr_weight"] * mean / reference
        yield Measured("psnr_ref_db", reference, at, "reward of psnr_roi_db", over.interval(term))
    usual, (low, high) = _DEFAULTS["psnr_ref_db"], PSNR_SPAN_DB
    within = ((psnr >= low) & (psnr <= high)).mean(axis=(1, 2, 3))
    yield Measured("psnr_ref_db", usual, at, f"share from {low:g} to {high:g} dB", over.interval(within))
    yield Measured("psnr_ref_db", usual, at, "psnr_roi_db", over.interval(mean))
    for quantity, share in (("least", 0.0), ("1st percentile", 0.01), ("99th percentile", 0.99), ("largest", 1.0)):
        yield Measured("psnr_ref_db", usual, at, f"{quantity} psnr_roi_db", _bare(float(np.quantile(psnr, share))))


def measure_clip_ceiling(images: str, effort: Effort) -> Iterator[Measured]:
    """CLIP-RONI of the tables where text costs nothing, and what is worth 1 in them."""
    for name in dict.fromkeys((*COMPARED, images)):
        table = load_mixture_table(name)
        values = table.clip_roni[:, 0, -1, -1].astype(np.float64)
        at = f"{table.token_symbols[-1]:g} symbols a token, {table.snr_db[-1]:g} dB"
        found = Resampling(table.items.picture).interval(values)
        yield Measured("clip_ceiling", name, at, "clip_roni", found)
        yield Measured("clip_ceiling", name, "reward", "ceiling", _bare(table.clip_ceiling))


MEASURED: Final = {
    "cbr_weight": measure_cbr_weight,
    "latency_ref_s": measure_latency_ref,
    "mask_outage": measure_mask_outage,
    "undecodable_penalty": measure_penalty,
    "psnr_ref_db": measure_psnr_ref,
    "clip_ceiling": measure_clip_ceiling,
}
"""What is measured of each choice."""


def table_of(rows: Sequence[Measured], caption: str) -> Any:
    """A table of one choice: a column a value, a line a quantity at a place."""
    from rich.table import Table

    choice = rows[0].choice
    cells = {(row.at, row.quantity, row.value): row.found for row in rows}
    values = list(dict.fromkeys(row.value for row in rows))
    table = Table(title=choice, caption=caption)
    table.add_column("at")
    table.add_column("quantity")
    for value in values:
        usual = value == _DEFAULTS[choice]
        heading = f"{value:g}" if isinstance(value, float) else value
        table.add_column(heading + "\n(default)" * usual, justify="right", style="bold" if usual else None)
    lines = list(dict.fromkeys((row.at, row.quantity) for row in rows))
    for before, (at, quantity) in zip([lines[0], *lines], lines, strict=False):
        if at != before[0] and quantity != before[1]:
            table.add_section()
        table.add_row(at, quantity, *(_cell(cells.get((at, quantity, value))) for value in values))
    return table


def to_row(one: Measured) -> dict[str, Any]:
    """A line of the CSV file; what has no interval has none there."""
    bounds = {"low": one.found.low, "high": one.found.high}
    return {
        **{name: getattr(one, name) for name in ("choice", "value", "at", "quantity")},
        "mean": round(one.found.value, 6),
        **{name: "" if np.isnan(bound) else round(bound, 6) for name, bound in bounds.items()},
    }


def _bare(value: float) -> Interval:
    return Interval(value, np.nan, np.nan)


def _cell(one: Interval | None) -> str:
    if one is None:
        return ""
    return f"{one.value:.4g}" + (f"\n{one.low:.4g} to {one.high:.4g}" if not np.isnan(one.low) else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table a choice, and write all numbers as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-validation", help="image set, by name or file")
    parser.add_argument("--episodes", type=int, default=Effort.episodes, help="of the uplink, for each of its cells")
    parser.add_argument("--choices", nargs="+", choices=MEASURED, default=list(MEASURED), help="what is measured")
    add_output(parser)
    given = parse_output(parser, arguments)
    effort = Effort(4, 8, 4) if given.quick else Effort(episodes=given.episodes)
    pictures = f"{pictures_of(given.images).groups} pictures"
    console, rows = make_console(), []
    console.width = console.width if console.is_terminal else _WIDTH
    for choice in given.choices:
        found = list(MEASURED[choice](given.images, effort))
        over = f"{effort.episodes} episodes" if choice == "latency_ref_s" else pictures
        console.print(table_of(found, f"{given.images}; below a mean its 95 % bootstrap interval over {over}"))
        rows += found
    given.output.mkdir(parents=True, exist_ok=True)
    write_rows([to_row(one) for one in rows], given.output / f"{STEM}.csv")
    console.print(str(given.output / f"{STEM}.csv"), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
