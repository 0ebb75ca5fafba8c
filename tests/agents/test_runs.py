"""Runs as folders: agents by name, records of what made a result, and who is compared with whom."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from noma_semcom_agents.cli import app
from noma_semcom_agents.comparison import Comparison, Curve, print_comparison, write_comparison
from noma_semcom_agents.evaluation import Evaluation, Record
from noma_semcom_agents.lineup import Run, common_knobs, contenders_of, read_runs
from noma_semcom_agents.provenance import git_state, jsonable, write_json
from noma_semcom_agents.report import make_console
from noma_semcom_agents.roster import AGENTS, find_agent, spread
from noma_semcom_agents.runs import Request, check_same, make_record, read_record, read_request, refuse_other_run
from noma_semcom_agents.training import knobs_of
from noma_semcom_env import Scenario


def write_record(folder: Path, request: Request, ended: Any = None) -> dict[str, Any]:
    """The record of a run that was begun, and perhaps ended."""
    config = request.configure()
    record = make_record(request, config, {**knobs_of(str(config.env)), **request.knobs})
    record |= {"ended": ended, "validation": {"images": request.validation, "episodes": 4}}
    folder.mkdir(parents=True)
    write_json(record, folder / "run.json")
    return record


@pytest.mark.parametrize("name", AGENTS)
def test_agents_are_configured_by_name(name: str) -> None:
    agent = find_agent(name)
    settings = {"lr": 0.005, "critic_lr": [[0, 1e-3], [10, 1e-4]], "lambda": 0.5, "model.width": 24}
    config: Any = agent.configure({"num_users": 2}, settings, seed=3, num_env_runners=2)
    assert agent.settings_of(config) == {**agent.settings_of(agent.make_config()), **settings}
    assert (config.lambda_, config.num_env_runners, config.seed) == (0.5, 2, spread(3))
    assert config.env_config == {"num_users": 2}
    assert config.algo_class.get_default_config().env == config.env


def test_the_three_agents_face_three_tasks() -> None:
    knobs = [knobs_of(str(agent.make_config().env)) for agent in AGENTS.values()]
    assert knobs == [{}, {"prune": False}, {"prune": False, "transmission": "model_free"}]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lrr": 1.0}, "'lrr' is no setting of IM-PPO; did you mean 'lr'"),
        ({"gamma": True}, "gamma=True must be a number"),
        ({"use_kl_loss": 1}, "use_kl_loss=1 must be true or false"),
        ({"lr": [1, 2]}, r"lr=\[1, 2\] must be a number or a list of"),
        ({"grad_clip_by": 3}, "grad_clip_by=3 must be a text"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        find_agent("im-ppo").configure({}, settings, 0)


def test_a_record_holds_everything(tmp_path: Path) -> None:
    request = Request(agent="m-ppo", seed=5, steps=777, knobs={"num_users": 2}, settings={"lr": 1e-3})
    write_record(tmp_path / "run", request)
    record = read_record(tmp_path / "run")
    scenario = Scenario.from_json(json.dumps(record["scenario"]))
    assert (scenario.num_users, scenario.prune) == (2, False)
    assert set(record["scenario"]) == set(asdict(Scenario()))
    assert record["scenario"]["latency_ref_s"] is not None
    assert record["training"]["lr"] == [[0, 1e-3], [777, pytest.approx(5e-5)]]
    # Every setting of RLlib, not only those that we choose.
    assert {"lr", "clip_param", "num_envs_per_env_runner", "env_config", "gamma"} <= record["algorithm"].keys()
    assert len(record["algorithm"]) > 100
    assert record["versions"].keys() >= {"python", "torch", "ray", "numpy", "gymnasium", "noma-semcom-env"}
    assert record["git"] == git_state()
    assert record["ended"] is None
    assert read_request(tmp_path / "run") == request


def test_a_run_is_neither_overwritten_nor_resumed_as_another(tmp_path: Path) -> None:
    request = Request(steps=100, knobs={"num_users": 2})
    with pytest.raises(FileNotFoundError, match=r"holds no run\.json"):
        check_same(tmp_path / "run", request)
    write_record(tmp_path / "run", request)
    with pytest.raises(FileExistsError, match="holds a run already; go on with it by --resume"):
        refuse_other_run(tmp_path / "run")
    check_same(tmp_path / "run", replace(request, seconds=5.0))
    with pytest.raises(ValueError, match="was begun with steps=100, not 200"):
        check_same(tmp_path / "run", replace(request, steps=200))
    with pytest.raises(ValueError, match="was begun with knobs="):
        check_same(tmp_path / "run", replace(request, knobs={}))
    write_record(tmp_path / "ended", request, {"steps": 128})
    with pytest.raises(ValueError, match="ended after 128 steps"):
        check_same(tmp_path / "ended", request)


@pytest.mark.parametrize(
    ("part", "name", "was"),
    [
        ("training", "clip_param", 0.123),
        ("training", "lr", [[0, 0.1], [100, 0.005]]),
        ("training", "momentum", 0.5),
        ("scenario", "violation_penalty", 2.0),
    ],
)
def test_a_run_is_not_resumed_under_other_defaults(part: str, name: str, was: Any, tmp_path: Path) -> None:
    request = Request(steps=100, knobs={"num_users": 2})
    record = write_record(tmp_path / "run", request)
    check_same(tmp_path / "run", request)
    now = repr(record[part].get(name, "nothing of that name"))
    write_json({**record, part: {**record[part], name: was}}, tmp_path / "run" / "run.json")
    told = re.escape(f"begun with {name}={was!r}, and this version would go on with {now}")
    with pytest.raises(ValueError, match=told):
        check_same(tmp_path / "run", request)


def test_a_setting_that_is_newer_than_the_run_is_named(tmp_path: Path) -> None:
    request = Request(steps=100)
    record = write_record(tmp_path / "run", request)
    del record["scenario"]["sic_residual"]  # one that is newer was at its default
    write_json(record, tmp_path / "run" / "run.json")
    check_same(tmp_path / "run", request)
    del record["training"]["num_epochs"]
    write_json(record, tmp_path / "run" / "run.json")
    with pytest.raises(ValueError, match="begun with num_epochs='nothing of that name', and this version would"):
        check_same(tmp_path / "run", request)


@pytest.mark.parametrize("missing", ["agent", "request", "labels", "ended"])
def test_records_of_other_versions_are_refused_by_what_they_lack(missing: str, tmp_path: Path) -> None:
    record = write_record(tmp_path / "run", Request())
    write_json({name: one for name, one in record.items() if name != missing}, tmp_path / "run" / "run.json")
    with pytest.raises(ValueError, match=f"lacks '{missing}': another version wrote it"):
        read_runs([tmp_path / "run"], "street-test")
    with pytest.raises(ValueError, match=f"lacks '{missing}'"):
        check_same(tmp_path / "run", Request())
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert f"lacks '{missing}'" in re.sub(r"[\s│]+", " ", result.output)


def test_scenarios_of_other_versions_are_refused_by_name(tmp_path: Path) -> None:
    record = write_record(tmp_path / "run", Request())
    write_json({**record, "scenario": {**record["scenario"], "users": 3}}, tmp_path / "run" / "run.json")
    with pytest.raises(ValueError, match="this version does not know .*'users' is no field of Scenario"):
        read_runs([tmp_path / "run"], "street-test")
    write_json({**record, "request": {**record["request"], "users": 3}}, tmp_path / "run" / "run.json")
    with pytest.raises(ValueError, match="asked for what this version does not know .*'users'"):
        read_request(tmp_path / "run")


def test_git_state_is_that_of_the_file(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        name = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    file = tmp_path / "a.py"
    file.write_text("1\n")
    assert git_state(file) is None
    git("init", "--quiet")
    assert git_state(file) is None  # in a checkout, but not part of it
    git("add", "a.py")
    git("commit", "--quiet", "--message", "one")
    assert git_state(file) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    file.write_text("2\n")
    state = git_state(file)
    assert state is not None
    assert state["dirty"]


def test_everything_becomes_json() -> None:
    value = {"a": np.float32(0.5), "b": float("inf"), "c": (1, {"x"}), "d": Path("x"), "e": Scenario, 3: np.int64(4)}
    assert jsonable(value) == {
        "a": 0.5, "b": None, "c": [1, ["x"]], "d": "x", "e": "noma_semcom_env.scenario.Scenario", "3": 4,
    }  # fmt: skip


def test_runs_get_labels_of_their_own(tmp_path: Path) -> None:
    ended = {"steps": 300_000}
    for name, agent, seed in (("a", "im-ppo", 0), ("b", "im-ppo", 1), ("c", "m-ppo", 0)):
        write_record(tmp_path / name, Request(agent=agent, seed=seed), ended)
    write_record(tmp_path / "d", Request(seed=1, settings={"lr": 1e-4}), ended)
    labels = [run.label for run in read_runs([tmp_path / name for name in "abcd"], "street-test")]
    assert labels == ["IM-PPO, seed 0", f"IM-PPO, {tmp_path / 'b'}", "M-PPO", f"IM-PPO, {tmp_path / 'd'}"]
    with pytest.raises(ValueError, match="named 2 times"):
        read_runs([tmp_path / "a", tmp_path / "a"], "street-test")


def test_runs_of_different_tasks_are_not_compared(tmp_path: Path) -> None:
    write_record(tmp_path / "a", Request(knobs={"num_users": 2}))
    write_record(tmp_path / "b", Request(agent="plain-ppo", knobs={"num_users": 4}))
    runs = read_runs([tmp_path / "a", tmp_path / "b"], "street-test")
    with pytest.raises(ValueError, match="was trained with num_users=4, .* with 2"):
        common_knobs(runs, "street-test", {})
    common = common_knobs(runs, "street-test", {"num_users": 3})
    assert (common["num_users"], common["images"]) == (3, "street-test")
    assert not {"prune", "transmission"} & common.keys()
    assert runs[1].own_knobs["transmission"] == "model_free"
    with pytest.raises(ValueError, match="'rand' is no reference; did you mean 'random'"):
        contenders_of(runs, common, ["rand"])


@pytest.fixture
def comparison() -> Comparison:
    """Two agents with three seeds each, the second one worse by 0.1 and slower."""
    rng = np.random.default_rng(0)
    episodes = rng.uniform(0.1, 0.3, (1, 20, 2))
    records, groups, curves = {}, {}, {}
    steps = np.arange(0.0, 1001.0, 100.0)
    for place, title in enumerate(("IM-PPO", "M-PPO")):
        common = {"agent": title.lower(), "request": {"steps": 1000}, "ended": {"steps": 1000}}
        groups[title] = [Run(Path(f"{title}-{i}"), {**common, "seed": i}, f"{title} {i}") for i in range(3)]
        for seed, run in enumerate(groups[title]):
            worse = 0.01 + 0.1 * place + 0.001 * seed
            some = np.full((20, 2), 0.5)
            records[run.label] = Record(run.label, -episodes[0] - worse, some, some, some, some)
            regret = 0.05 + np.exp(-steps / (100.0 + 50.0 * place))
            curves[run.label] = Curve(steps, regret, -0.2 * (1.0 + regret))
    records["Oracle"] = Record("Oracle", -episodes[0], some, some, some, some)
    return Comparison(groups, Evaluation(records, episodes[0], 0), curves, 1.05)


def test_agents_are_compared_over_seeds(
    comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((first, second, seeds, gap),) = comparison.differences()
    assert (first, second, seeds) == ("IM-PPO", "M-PPO", 3)
    assert gap.value == pytest.approx(0.1)
    assert gap.low > 0.09
    best = comparison.evaluation.objective.mean()
    assert comparison.interval("IM-PPO", "regret").value == pytest.approx(0.011 / best)
    threshold, reached = comparison.convergence()
    assert threshold == pytest.approx(1.05 - 0.9 * (1.05 - 0.05 - np.exp(-10.0)))
    assert reached["IM-PPO 0"] == 300.0
    assert reached["M-PPO 0"] == 400.0
    print_comparison(comparison, make_console(), "test")
    said = capsys.readouterr().out
    for word in ("IM-PPO", "M-PPO", "Oracle", "better", "3 of 3"):
        assert word in said
    files = write_comparison(comparison, tmp_path / "out", {"a": 1})
    assert {file.name for file in files} == {
        "agents.csv", "runs.csv", "differences.csv", "comparison.json", "comparison.png",
    }  # fmt: skip
    assert all(file.stat().st_size > 0 for file in files)
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["differences"][0]["difference"] == pytest.approx(0.1)
    assert content["runs"][0]["converged_at"] == 300.0
