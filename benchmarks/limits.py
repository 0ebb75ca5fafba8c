"""What limits IM-PPO: its policy, what it knows of LPIPS, or what pruning withholds from it.

    python -m noma_semcom_benchmarks.limits --page docs/leaderboard.md

IM-PPO's critic has learned from rewards what pictures are worth; the exact search believes it. The actor has to find
in one pass what this search finds, so the difference of their regrets is the policy's. What the search still loses to
the oracle over pruned features, it does not know; and that oracle's own regret is what pruning costs. The set network,
which learns the same from whole tables instead of rewards, stands beside them under the same pruning. All of it on the
images that the agent was trained on as well, where nothing is unseen.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from noma_semcom_agents.critic_quality import CriticQuality
from noma_semcom_agents.evaluation import Contender, full_table
from noma_semcom_agents.lineup import SET_NETWORK, Run
from noma_semcom_agents.predictor import SetQuality
from noma_semcom_agents.searching import SearchingPolicy
from noma_semcom_agents.training import CHECKPOINT
from noma_semcom_benchmarks.pages import columns, make_parser, publish, run_figure
from noma_semcom_benchmarks.sweeps import Scheme, learned, measure, single
from noma_semcom_benchmarks.trainings import Point

SEEN: Final = "street-policy"
AGENT: Final = "IM-PPO"
CRITIC: Final = "search on IM-PPO's critic"
NETWORK: Final = f"{SET_NETWORK}, pruned features"
PRUNED: Final = "Oracle (pruned)"


def search_on_critics(scheme: Scheme) -> Scheme:
    """The exact search, believing the critic of each run."""
    found, scenario = {}, full_table({})[0]
    for seed, run in scheme.runs.items():
        policy = SearchingPolicy(critic_of(run), scenario, CRITIC)
        found[seed] = Contender(policy, run.own_knobs, f"{CRITIC}, seed {seed}")
    return Scheme(CRITIC, found, scheme.runs)


def critic_of(run: Run) -> CriticQuality:
    """What a run's critic knows of LPIPS."""
    scenario = run.record["scenario"]
    return CriticQuality.from_checkpoint(
        run.folder / CHECKPOINT, tuple(run.record["labels"]), float(scenario["lpips_weight"])
    )


def make(arguments: argparse.Namespace) -> None:
    """Measure and publish."""
    agent = learned(AGENT, Point("im-ppo"), arguments.root, "main", arguments.quick)
    network = SearchingPolicy(SetQuality.bundled(), full_table({})[0], SET_NETWORK)
    schemes = [agent, search_on_critics(agent), single(NETWORK, Contender(network))]
    rows: list[dict[str, Any]] = []
    for images, words in ((SEEN, "trained on"), (arguments.images, "unseen")):
        measured = measure(schemes, {"images": images}, arguments.episodes)
        best = float(measured.evaluation.objective.mean())
        gap = (measured.sample(AGENT, "objective") - measured.sample(CRITIC, "objective")) * (1.0 / best)
        row: dict[str, Any] = {"images": words} | columns(AGENT, measured.regret(AGENT))
        row |= columns(CRITIC, measured.regret(CRITIC)) | columns("the policy's share", gap.mean())
        for name in (NETWORK, PRUNED):
            row |= columns(name, measured.regret(name))
        rows.append(row)
    publish("limits", arguments, rows, runs=len(agent.runs))


def main() -> None:
    """Say what limits IM-PPO."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
