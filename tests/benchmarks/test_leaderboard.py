"""The leaderboard's rows, a policy of one's own, and the Pareto front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noma_semcom_agents.evaluation import Contender
from noma_semcom_agents.references import UNPRUNED
from noma_semcom_agents.schemes import AllSelection, NoSelection
from noma_semcom_benchmarks import leaderboard
from noma_semcom_benchmarks.leaderboard import FORMS, family_rows, load_policy, together
from noma_semcom_benchmarks.pareto import undominated
from noma_semcom_benchmarks.references import Entry

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
    rows, regrets = family_rows("K2N1", entries, table_path, 6)
    assert [row["regret"] for row in rows] == sorted(row["regret"] for row in rows)
    named = {row["who"]: row for row in rows}
    assert rows[0]["who"] == "Oracle"
    assert rows[0]["regret"] == 0.0
    assert all(named[f"Oracle ({form})"]["regret"] >= 0.0 for form in FORMS)
    assert named["Oracle (pruned, near first)"]["regret"] >= named["Oracle (near first)"]["regret"]
    assert (named["all"]["runs"], named["none"]["runs"]) == (2, None)
    assert (named["all"]["training_steps"], named["all"]["command"]) == (10, "x")
    assert {row["id"] for row in rows} == {"NomaSemComUnpruned-K2N1-v0"}
    assert regrets["all"].shape == (2,)
    assert regrets["all"].mean() == pytest.approx(named["all"]["regret"])


def test_tasks_together_are_those_that_everyone_of_the_line_has() -> None:
    regrets = {"a": {"x": np.array([0.1, 0.3]), "y": np.array([0.2])}, "b": {"x": np.array([0.5])}}
    (row,) = together(regrets)
    assert (row["who"], row["families"], row["runs"]) == ("x", 2, 1)
    assert row["regret"] == pytest.approx(0.3)


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
