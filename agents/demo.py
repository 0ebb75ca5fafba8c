"""The whole chain in a few minutes: train IM-PPO, compare it on test images, draw two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, Evaluation, Knobs, evaluate
from noma_semcom_agents.lineup import EVALUATION_SEED, common_knobs, contenders_of, read_runs
from noma_semcom_agents.report import make_console, print_tables, write_results
from noma_semcom_agents.runs import Request, clear_run, train_policy
from noma_semcom_agents.schemes import AllSelection, RandomSelection
from noma_semcom_env import Scenario

if TYPE_CHECKING:
    from noma_semcom_agents.pictures import Step
    from noma_semcom_agents.training import Training

STEPS: Final = 150_000
SECONDS: Final = 200.0
EPISODES: Final = 256


def run_demo(
    output: str | Path = "runs/demo",
    seed: int = 0,
    steps: int = STEPS,
    seconds: float | None = SECONDS,
    episodes: int = EPISODES,
    knobs: Knobs | None = None,
    images: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Train, evaluate, draw, and say where everything is.

    Args:
        output: Folder for the results.
        seed: Of the training; the evaluation's episodes are always the same.
        steps: Environment steps of the training.
        seconds: Ends the training earlier; None sets no limit.
        episodes: Test episodes.
        knobs: Scenario fields that differ from the default, image sets and ids excepted.
        images: Image sets of the splits ``policy``, ``validation`` and ``test``; the bundled ones by default.
        progress: Whether to draw a progress line.
    """
    sets = {split: f"street-{split}" for split in ("policy", "validation", "test")} | dict(images or {})
    knobs = dict(knobs or {})
    if taken := knobs.keys() & {"images", "image_ids"}:
        raise ValueError(f"knobs holds {sorted(taken)}; the demo has image sets of its own, see images")
    folder, console, start = Path(output).resolve(), make_console(), perf_counter()
    console.print(f"Training IM-PPO, at most {steps} steps or {seconds or np.inf:.0f} s, on images {sets['policy']!r}.")
    clear_run(folder)
    fields = {**knobs, "images": sets["policy"]}
    request = Request(seed=seed, steps=steps, seconds=seconds, knobs=fields, validation=sets["validation"])
    training = train_policy(folder, request, progress)
    console.print(
        f"Evaluating on {episodes} episodes of images {sets['test']!r}, the same random numbers for everyone."
    )
    runs = read_runs([folder], sets["test"])
    test = common_knobs(runs, sets["test"], knobs)
    evaluation = evaluate(contenders_of(runs, test), test, episodes, EVALUATION_SEED)
    subject = runs[0].label
    print_tables(evaluation, subject, console, f"{episodes} episodes of test images")
    evaluated = {"episodes": episodes, "evaluation_seed": EVALUATION_SEED, "images": sets["test"]}
    files = write_results(evaluation, subject, folder, {**runs[0].record, "evaluation": evaluated})
    console.print("Drawing the learning curve and one transmission.")
    files += draw(training, test, folder)
    console.print(f"Done in {perf_counter() - start:.0f} s. Results:")
    for file in [*files, training.checkpoint]:
        console.print(f"  {_relative(file)}", soft_wrap=True)
    return evaluation


def draw(training: Training, test: Knobs, folder: Path) -> list[Path]:
    """Draw both pictures.

    Args:
        training: What was trained.
        test: Scenario fields of the test environment.
        folder: Where to.
    """
    from noma_semcom_agents.pictures import capture_step, draw_learning_curve, draw_transmission

    validation, unpruned = training.validation, {"prune": False}
    levels = {} if np.isnan(validation.best) else {"Oracle": validation.best}
    levels |= {
        "ALL-Selection": validation.reward(AllSelection(), unpruned),
        "Random-Selection": validation.reward(RandomSelection(), unpruned),
    }
    if validation.knobs.get("access", "noma") == "noma":
        levels["Location-Decoding"] = validation.reward(training.policy, {"transmission": "distance"})
    curve, picture = folder / "learning_curve.png", folder / "transmission.png"
    draw_learning_curve(training.curve, levels, curve, training.policy.name)
    step = capture_step(Contender(training.policy), test, EVALUATION_SEED)
    draw_transmission(step, recover(step, test), picture, f"{training.policy.name} on test images")
    return [curve, picture]


def recover(step: Step, knobs: Knobs) -> np.ndarray:
    """What the receiver makes of a transmission, (K, H, W, 3) uint8, with the table's models, steps and first seed."""
    from noma_semcom_env import load_table
    from noma_semcom_env.recovery.pipeline import load_recovery

    scenario = Scenario.of(None, knobs)
    made_by = load_table(scenario.images).provenance
    pipeline = load_recovery(made_by.get("models", scenario.models), made_by.get("denoising_steps"))
    seeds = tuple(made_by.get("diffusion_seeds", (0,)))[:1]
    pictures: np.ndarray = pipeline.recover(step.features, step.selection, seeds)[:, 0]
    return pictures


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
