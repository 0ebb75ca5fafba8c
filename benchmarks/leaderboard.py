"""The leaderboard: every agent and every reference on every family of ids, by regret to the oracle.

    python -m noma_semcom_benchmarks.leaderboard --page docs/leaderboard.md
    python -m noma_semcom_benchmarks.leaderboard --policy my_agent:MyPolicy

Agents appear where trainings of the campaigns "main", "location" (the default family) and "families" (the others)
exist; those that do not are named below the table. References are fitted here, on policy-training images:
the predictor and LinUCB once, on the default task, since a model of an image's LPIPS knows nothing of users; the greedy
reference on each task. The set network is the bundled one, unless it is to be trained anew. Every row of a family meets
the same test episodes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, make_oracle, oracle_record, rollout
from noma_semcom_agents.lineup import EVALUATION_SEED, PREDICTOR
from noma_semcom_agents.references import NEAR_FIRST, UNPRUNED
from noma_semcom_agents.roster import find_agent
from noma_semcom_agents.runs import read_record
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_agents.statistics import regret_interval, together_interval
from noma_semcom_benchmarks.pages import Claim, columns, judge, make_parser, publish, run_figure
from noma_semcom_benchmarks.references import Entry, References
from noma_semcom_benchmarks.sweeps import LOCATION, ORACLE, Measured, Scheme, learned_if_any, measure, train_quickly
from noma_semcom_benchmarks.trainings import AGENTS, FAMILIES, Point, swept
from noma_semcom_env.actions import MODEL_FREE

DEFAULT: Final = next(iter(FAMILIES))
"""The default scenario's family."""

BORROWED: Final = f"{LOCATION} (policy of IM-PPO)"
FORMS: Final = ("pruned", "near first", "pruned, near first")
"""Restricted oracles that stand beside the oracle."""


def trained(knobs: Mapping[str, Any], root: Path, quick: bool) -> tuple[list[Entry], dict[str, str]]:
    """Agents whose trainings exist for a family, Location-Decoding among them, and those that are missing.

    Args:
        knobs: Of the family.
        root: Folder of the campaigns.
        quick: Train IM-PPO over few steps if there is none.

    Returns:
        The entries, and the campaign that trains it by the title of what is missing.
    """
    point = swept if knobs else Point
    if quick:
        train_quickly(point("im-ppo", knobs), root)
    main, near = ("families", "families") if knobs else ("main", "location")
    entries, missing = [], {}
    for name in AGENTS:
        title = find_agent(name).title
        found = learned_if_any(title, point(name, knobs), root, main)
        if not found:
            missing[title] = main
        for scheme in found:
            entries.append(_entry(scheme, scheme.name))
            if name == "im-ppo":
                other = {
                    seed: Contender(one.policy, {**one.knobs, **NEAR_FIRST}) for seed, one in scheme.contenders.items()
                }
                entries.append(_entry(Scheme(BORROWED, other, scheme.runs), BORROWED))
    found = learned_if_any(LOCATION, point("im-ppo", {**knobs, **NEAR_FIRST}), root, near)
    if not found:
        missing[LOCATION] = near
    return [*entries, *(_entry(own, own.name) for own in found)], missing


def _entry(scheme: Scheme, name: str) -> Entry:
    """The entry of runs, with the median of their times."""
    records = [read_record(run.folder) for run in scheme.runs.values()]
    seconds = float(np.median([one["ended"]["seconds"] for one in records]))
    words = ["noma-semcom train", f"--agent {records[0]['agent']}"]
    words += [f"--set {key}={value}" for key, value in records[0]["request"]["knobs"].items()]
    words += [f"--setting {key}={value}" for key, value in records[0]["request"]["settings"].items()]
    words += [f"--steps {records[0]['request']['steps']} --seed SEED"]
    return Entry(name, dict(scheme.contenders), int(records[0]["ended"]["steps"]), seconds, " ".join(words))


def load_policy(place: str) -> Entry:
    """The entry of a user's own policy, acting on all features.

    Args:
        place: ``module:Class``, whose instances are policies and made without arguments.

    Raises:
        ValueError: If there is no such class.
    """
    module, sign, name = place.partition(":")
    if not sign:
        raise ValueError(f"policy {place!r} must have the form module:Class")
    sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"policy {place!r} cannot be imported: {error}") from error
    finally:
        sys.path.pop(0)
    policy = make()
    return Entry(policy.name, {-1: Contender(policy, UNPRUNED)}, note=place)


def family_rows(
    family: str, entries: Sequence[Entry], images: str, episodes: int
) -> tuple[list[dict[str, Any]], Measured]:
    """Evaluate the entries of one family.

    Args:
        family: Key of :data:`~noma_semcom_benchmarks.trainings.FAMILIES`.
        entries: With names of their own.
        images: Image set.
        episodes: Evaluation episodes.

    Returns:
        The rows by rising regret, and what they were made of, restricted oracles among the records.
    """
    knobs = {**FAMILIES[family], "images": images}
    schemes = [
        Scheme(one.name, {seed: _labelled(c, one.name, seed) for seed, c in one.contenders.items()}, {})
        for one in entries
    ]
    measured = measure(schemes, knobs, episodes)
    # What is drawn does not depend on who acts, nor on what an oracle is restricted to.
    record, faced = rollout(Contender(NoSelection()), knobs, episodes, EVALUATION_SEED)
    steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
    for form in FORMS:
        if f"{ORACLE} ({form})" not in measured.evaluation.records:
            oracle = make_oracle(knobs, pruned="pruned" in form, near_first="near first" in form)
            measured.evaluation.records[f"{ORACLE} ({form})"] = oracle_record(
                oracle, oracle.solve(steps), faced["image_index"], record.reward.shape
            )
    rows = []
    for entry in [*entries, Entry(ORACLE, {}), *(Entry(f"{ORACLE} ({form})", {}) for form in FORMS)]:
        rows.append(_row(family, entry, measured, *missed(measured, entry.name)))
    rows.sort(key=lambda row: row["regret"])
    return rows, measured


def missed(measured: Measured, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(R, E) the objective of each run beyond the oracle's, and (E,) the oracle's."""
    best = measured.evaluation.objective.mean(axis=1)
    return measured.sample(name, "objective").values - best, best


def _labelled(contender: Contender, name: str, seed: int) -> Contender:
    return Contender(contender.policy, contender.knobs, name if seed < 0 else f"{name}, seed {seed}")


def id_of(entry: Entry, family: str) -> str:
    """The environment whose actions a row takes: all features, the pruned ones, or beams and order as well.

    Args:
        entry: Of a contender, or of an oracle, which has none and says by its name what it is restricted to.
        family: Key of :data:`~noma_semcom_benchmarks.trainings.FAMILIES`.
    """
    own = next(iter(entry.contenders.values())).knobs if entry.contenders else {"prune": "pruned" in entry.name}
    if own.get("transmission") == MODEL_FREE:
        name = "NomaSemComModelFree"
    else:
        name = "NomaSemCom" if own.get("prune", True) else "NomaSemComUnpruned"
    return f"{name}{'' if family == DEFAULT else f'-{family}'}-v0"


def _row(family: str, entry: Entry, measured: Measured, missed: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"family": family, "id": id_of(entry, family), "who": entry.name}
    row["runs"] = sum(seed >= 0 for seed in entry.contenders) or None
    row |= columns("regret", regret_interval(missed, best))
    for name, factor in (("reward", 1.0), ("lpips", 1.0), ("latency_s", 1e3), ("share", 1.0)):
        row |= columns(name.replace("_s", "_ms"), (measured.sample(entry.name, name) * factor).mean())
    row |= {"training_steps": entry.steps or None, "training_s": round(entry.seconds, 1) or None}
    return row | {"command": entry.command or "python -m noma_semcom_benchmarks.leaderboard", "note": entry.note}


def together(families: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> list[dict[str, Any]]:
    """One line for everyone who is in every family: the mean over families of the regret on each.

    Args:
        families: Family to name to what :func:`missed` gives.
    """
    rows = []
    for name in next(iter(families.values())):
        tasks = [one[name] for one in families.values() if name in one]
        if len(tasks) < len(families) or name == ORACLE:
            continue
        least = min(len(one) for one, _ in tasks)
        interval = together_interval(tasks)
        rows.append({"who": name, "runs": least, "families": len(tasks), **columns("regret", interval)})
    return sorted(rows, key=lambda row: float(row["regret"]))


def claims(measured: Measured) -> list[Claim]:
    """The protocol's second claim, where both are among the rows of the default family."""
    agent = find_agent("im-ppo").title
    if not {agent, PREDICTOR} <= measured.schemes.keys():
        return []
    gap = measured.sample(agent, "reward") - measured.sample(PREDICTOR, "reward")
    text = f"(ours) {agent}'s regret on test images is not above the fitted predictor's"
    return [judge(text, {f"reward less the predictor's, {DEFAULT}": gap.mean()})]


def make(arguments: argparse.Namespace) -> None:
    """Evaluate and publish."""
    references = References(arguments.quick, arguments.set_network, arguments.seeds, arguments.retrain)
    own = [load_policy(place) for place in arguments.policy]
    rows, found, notes, verdicts = [], {}, [], []
    for family in arguments.families:
        knobs = FAMILIES[family]
        agents, missing = trained(knobs, arguments.root, arguments.quick)
        if missing:
            train = " ".join(dict.fromkeys(missing.values()))
            notes.append(
                f"Without runs in {family}: {', '.join(missing)}; train them with "
                f"`python -m noma_semcom_benchmarks.campaign {train}`."
            )
        entries = [*agents, *own]
        if not arguments.no_references:
            entries += references.of(knobs)
        some, measured = family_rows(family, entries, arguments.images, arguments.episodes)
        rows += some
        found[family] = {row["who"]: missed(measured, row["who"]) for row in some}
        if family == DEFAULT:
            verdicts = claims(measured)
    if len(found) > 1:
        publish("leaderboard-together", arguments, together(found))
    least = min((row["runs"] for row in rows if row["runs"]), default=None)
    publish("leaderboard", arguments, rows, verdicts, runs=least, table=[_short(row) for row in rows], notes=notes)


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(("id", "note", "reward", "share"))}


def main() -> None:
    """Make the leaderboard."""
    parser = make_parser(__doc__)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--policy", nargs="+", default=[], metavar="MODULE:CLASS", help="policies of your own")
    parser.add_argument("--no-references", action="store_true", help="agents and policies of your own alone")
    parser.add_argument(
        "--set-network", type=Path, metavar="FOLDER", help="its folder, trained there if empty; else the bundled one"
    )
    parser.add_argument("--retrain", action="store_true", help="train the set network even if there is one")
    parser.add_argument("--seeds", type=int, default=5, help="runs of LinUCB")
    run_figure(make, parser)


if __name__ == "__main__":
    main()
