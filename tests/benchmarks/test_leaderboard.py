"""The leaderboard's rows, a policy of one's own, and the Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_agents.evaluation import Contender, Evaluation, Record
from noma_semcom_agents.lineup import PREDICTOR
from noma_semcom_agents.references import NEAR_FIRST, UNPRUNED
from noma_semcom_agents.schemes import AllSelection, NoSelection
from noma_semcom_benchmarks import leaderboard
from noma_semcom_benchmarks.leaderboard import FORMS, claims, family_rows, id_of, load_policy, missed, together, trained
from noma_semcom_benchmarks.pages import AGREES, DIFFERS, UNDECIDED
from noma_semcom_benchmarks.pareto import undominated
from noma_semcom_benchmarks.references import Entry
from noma_semcom_benchmarks.sweeps import Measured, Scheme
from noma_semcom_env import Scenario

OWN = """
import numpy as np

class Mine:
    name = "Mine"
    def act(self, observation, info, rng):
        return np.zeros_like(observation["action_mask"], dtype=np.int8)
"""


def test_rows_are_ordered_and_restrictions_cost(table_path: str) -> None:
    entries = [
        Entry("none", {-1: Contender(NoSelection())}),
        Entry("all", {0: Contender(AllSelection(), UNPRUNED), 3: Contender(AllSelection(), UNPRUNED)}, 10, 1.0, "x"),
    ]
    rows, measured = family_rows("K2N1", entries, table_path, 6)
    assert [row["regret"] for row in rows] == sorted(row["regret"] for row in rows)
    named = {row["who"]: row for row in rows}
    assert rows[0]["who"] == "Oracle"
    assert rows[0]["regret"] == 0.0
    assert all(named[f"Oracle ({form})"]["regret"] >= 0.0 for form in FORMS)
    assert named["Oracle (pruned, near first)"]["regret"] >= named["Oracle (near first)"]["regret"]
    assert (named["all"]["runs"], named["none"]["runs"]) == (2, None)
    assert (named["all"]["training_steps"], named["all"]["command"]) == (10, "x")
    assert {row["who"]: row["id"].removesuffix("-K2N1-v0") for row in rows} == {
        "none": "NomaSemCom",
        "all": "NomaSemComUnpruned",
        "Oracle": "NomaSemComUnpruned",
        "Oracle (near first)": "NomaSemComUnpruned",
        "Oracle (pruned)": "NomaSemCom",
        "Oracle (pruned, near first)": "NomaSemCom",
    }
    beyond, best = missed(measured, "all")
    assert (beyond.shape, best.shape) == ((2, 6), (6,))
    assert beyond.mean() / best.mean() == pytest.approx(named["all"]["regret"])


def test_a_row_goes_by_the_environment_of_its_actions() -> None:
    def of(knobs: dict[str, Any], family: str = "K3N2") -> str:
        return id_of(Entry("Location-Decoding", {0: Contender(NoSelection(), knobs)}), family)

    assert of({"prune": True, **NEAR_FIRST}) == "NomaSemCom-v0"
    assert of({"prune": False, "transmission": "model_free"}, "K5N2") == "NomaSemComModelFree-K5N2-v0"
    assert of(dict(UNPRUNED)) == "NomaSemComUnpruned-v0"


def test_tasks_together_are_those_that_everyone_of_the_line_has() -> None:
    best = np.ones(4)

    def of(*regrets: float) -> tuple[np.ndarray, np.ndarray]:
        return np.outer(regrets, best), best

    rows = together({"a": {"x": of(0.1, 0.3), "y": of(0.2), "Oracle": of(0.0)}, "b": {"x": of(0.5), "Oracle": of(0.0)}})
    (row,) = rows
    assert (row["who"], row["families"], row["runs"]) == ("x", 2, 1)
    assert row["regret"] == pytest.approx((0.2 + 0.5) / 2)  # every family counts alike


def test_agents_without_runs_are_named_with_what_trains_them(tmp_path: Path) -> None:
    entries, missing = trained({}, tmp_path, quick=False)
    assert entries == []
    assert missing == {"IM-PPO": "main", "M-PPO": "main", "Plain-PPO": "main", "Location-Decoding": "location"}
    _, missing = trained({"num_users": 2, "num_antennas": 1}, tmp_path, quick=False)
    assert set(missing.values()) == {"families"}


def test_agents_without_runs_are_named_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_again.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- begin leaderboard -->\n<!-- end leaderboard -->\n")
    words = (
        "leaderboard --episodes 2 --families K3N2 --no-references --policy mine_again:Mine --output out --page page.md"
    )
    monkeypatch.setattr("sys.argv", words.split())
    leaderboard.main()
    line = "Without runs in K3N2: IM-PPO, M-PPO, Plain-PPO, Location-Decoding; train them with"
    assert line in page.read_text()
    assert line in capsys.readouterr().out
    assert "`python -m noma_semcom_benchmarks.campaign main location`" in page.read_text()


def test_the_agent_is_judged_against_the_fitted_predictor() -> None:
    rng = np.random.default_rng(0)

    def of(gain: float) -> Measured:
        hard = rng.normal(0.0, 1.0, (30, 1))
        records, named = {}, {}
        for name, mean, runs in ((PREDICTOR, 0.0, (-1,)), ("IM-PPO", gain, range(5))):
            labels = {seed: f"{name}, {seed}" for seed in runs}
            for label in labels.values():
                reward = hard + mean + 0.01 * rng.normal(size=(30, 1))
                records[label] = Record(label, reward, reward, reward, reward, reward)
            named[name] = Scheme(name, {s: Contender(NoSelection(), label=label) for s, label in labels.items()}, {})
        return Measured(Evaluation(records, np.ones((30, 1)), 0), named, Scenario())

    assert [claims(of(gain))[0].verdict for gain in (0.1, -0.1, 0.0)] == [AGREES, DIFFERS, UNDECIDED]
    assert claims(Measured(of(0.1).evaluation, {}, Scenario())) == []


def test_a_policy_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_agent.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    entry = load_policy("my_own_agent:Mine")
    assert (entry.name, list(entry.contenders)) == ("Mine", [-1])
    for place, message in (("my_own_agent", "form module:Class"), ("my_own_agent:Other", "cannot be imported")):
        with pytest.raises(ValueError, match=message):
            load_policy(place)


def test_the_front_is_what_nothing_undercuts() -> None:
    assert undominated([(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 4.0), (1.0, 5.0)]) == [True, True, False, False, True]


@pytest.mark.slow
def test_own_row_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "another_agent.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    words = "leaderboard --episodes 4 --families K2N1 --no-references --policy another_agent:Mine --output figures"
    monkeypatch.setattr("sys.argv", words.split())
    leaderboard.main()
    assert "| K2N1 | Mine |" in capsys.readouterr().out
    assert (tmp_path / "figures" / "leaderboard.csv").is_file()
