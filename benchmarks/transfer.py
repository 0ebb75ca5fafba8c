"""Transfer: IM-PPO's policies, trained once, on images, a style and numbers of users that they have not seen.

    python -m noma_semcom_benchmarks.transfer --page docs/figures.md

Reads the campaigns "users" (equivariant networks, trained at three users over the length of a sweep's point, and for
what retraining would give those of other numbers) and "mlp" (a plain perceptron, same task and length). The table of
crayon drawings is made if it is missing: 12 images of the test split, two diffusion seeds. A perceptron has a fixed
number of users, so other numbers are the equivariant networks' alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from noma_semcom_agents.learned import LearnedPolicy
from noma_semcom_agents.tabulation import tabulate_images
from noma_semcom_benchmarks.pages import Claim, columns, judge, make_parser, new_figure, publish, run_figure
from noma_semcom_benchmarks.sweeps import (
    ALL,
    RANDOM,
    Measured,
    Scheme,
    learned,
    learned_if_any,
    measure,
    reference,
    train_quickly,
)
from noma_semcom_benchmarks.trainings import MLP, USERS, swept
from noma_semcom_env import load_table

EQUIVARIANT: Final = "IM-PPO, equivariant"
PERCEPTRON: Final = "IM-PPO, MLP"
RETRAINED: Final = "IM-PPO, retrained"
CRAYON: Final = "street:test:crayon"
CRAYON_IMAGES: Final = 12
CRAYON_SEEDS: Final = (0, 1)


def resized(scheme: Scheme, users: int, width: int) -> Scheme:
    """A scheme of equivariant policies for another number of users; their weights stay as they are.

    Args:
        scheme: Of trained policies.
        users: K.
        width: F, features that a user's image may have.
    """
    contenders = {}
    for seed, one in scheme.contenders.items():
        policy: Any = one.policy
        module = SimpleNamespace(actor=policy.module.actor, settings={**policy.module.settings, "bits": users * width})
        contenders[seed] = replace(one, policy=LearnedPolicy(module, policy.name))
    return Scheme(scheme.name, contenders, scheme.runs)


def crayon_table(path: Path, count: int = CRAYON_IMAGES) -> Path:
    """The table of crayon drawings, made if it is missing."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        tabulate_images(CRAYON, path, seeds=CRAYON_SEEDS, count=count)
    return path


def rows_of(places: Mapping[tuple[str, int], Measured]) -> list[dict[str, Any]]:
    """A row for each place (images, users) and scheme."""
    rows = []
    for (images, users), measured in places.items():
        for name in (*measured.schemes, "Oracle (pruned)"):
            runs = len(measured.schemes[name].runs) if name in measured.schemes else 0
            row = {"images": images, "users": users, "who": name, "runs": runs or None}
            row |= columns("regret", measured.regret(name))
            rows.append(row | columns("reward", measured.sample(name, "reward").mean()))
    return rows


def claims(places: Mapping[tuple[str, int], Measured]) -> list[Claim]:
    """What is asked of transfer; these are questions of ours, no claims of the paper."""
    found = []
    both = {
        images: (one.sample(EQUIVARIANT, "reward") - one.sample(PERCEPTRON, "reward")).mean()
        for (images, users), one in places.items()
        if {EQUIVARIANT, PERCEPTRON} <= one.schemes.keys()
    }
    if both:
        found.append(judge("(ours) equivariant networks earn more than a perceptron", both))
    for rival in (RANDOM, ALL):
        ahead = {
            f"{images}, K = {users}": (one.sample(EQUIVARIANT, "reward") - one.sample(rival, "reward")).mean()
            for (images, users), one in places.items()
        }
        found.append(judge(f"(ours) a policy carried over earns more than {rival}", ahead))
    return found


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    own = learned(EQUIVARIANT, swept("im-ppo"), arguments.root, "users", arguments.quick)
    if arguments.quick:
        train_quickly(swept("im-ppo", settings=MLP), arguments.root)
    flat = learned_if_any(PERCEPTRON, swept("im-ppo", settings=MLP), arguments.root, "mlp")
    width = load_table(arguments.images).width
    plain = [reference("all", ALL), reference("random", RANDOM)]
    places: dict[tuple[str, int], Measured] = {}
    sets = {"street-policy": "seen in training", arguments.images: "unseen"}
    if not arguments.no_crayon:
        sets[str(crayon_table(arguments.crayon))] = "crayon"
    for images, words in sets.items():
        here = load_table(images).width
        schemes = [resized(own, 3, here), *(flat if here == width else []), *plain]
        places[words, 3] = measure(schemes, {"images": images}, arguments.episodes)
    for users in (2, 4) if arguments.quick else [one for one in USERS if one != 3]:
        schemes = [resized(own, users, width), *plain]
        schemes += learned_if_any(RETRAINED, swept("im-ppo", {"num_users": users}), arguments.root, "users")
        knobs = {"images": arguments.images, "num_users": users}
        places["unseen", users] = measure(schemes, knobs, arguments.episodes)
    rows = rows_of(places)
    publish("transfer", arguments, rows, claims(places), draw(rows), len(own.runs))


def draw(rows: list[dict[str, Any]]) -> Any:
    """Regret by place, one mark a scheme."""
    figure = new_figure(8.5, 4.4)
    axes = figure.subplots()
    labels = list(dict.fromkeys(f"{row['images']}\nK = {row['users']}" for row in rows))
    for number, name in enumerate(dict.fromkeys(row["who"] for row in rows)):
        own = [row for row in rows if row["who"] == name]
        x = [labels.index(f"{row['images']}\nK = {row['users']}") + 0.1 * number - 0.25 for row in own]
        value = [100.0 * row["regret"] for row in own]
        reach = [
            [100.0 * max(sign * (row[f"regret_{end}"] - row["regret"]), 0.0) for row in own]
            for sign, end in ((-1, "low"), (1, "high"))
        ]
        axes.errorbar(x, value, yerr=reach, fmt="o", markersize=4, capsize=3, label=name)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(ylabel="regret to the oracle, %", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    """Measure transfer."""
    parser = make_parser(__doc__)
    parser.add_argument("--crayon", type=Path, default=Path("runs/tables/street-test-crayon.npz"), help="its table")
    parser.add_argument("--no-crayon", action="store_true", help="leave the other style out")
    run_figure(make, parser)


if __name__ == "__main__":
    main()
