"""Where recoveries are computed for a table: processes of this machine, or the nodes of a Ray cluster.

Either way a :class:`Job` goes out and its LPIPS comes back. A job depends on nothing but its own fields, so one that a
lost worker held is simply computed again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import subset_members
from noma_semcom_env.zoo.presets import Models

_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Job:
    """Some subsets of one image's features, to be recovered from one diffusion seed.

    Attributes:
        row: Index of the image.
        image: (H, W, 3) uint8.
        features: The image's features.
        seed: Diffusion seed.
        subsets: (n,) int64 numbers of subsets.
        start: Place of the first of them in the image's row of the table.
    """

    row: int
    image: np.ndarray
    features: SemanticFeatures
    seed: int
    subsets: np.ndarray
    start: int


@dataclass(frozen=True)
class Computation:
    """What is done with each job: models, denoising steps and LPIPS network."""

    models: Models
    steps: int
    lpips_net: str

    def __call__(self, job: Job) -> np.ndarray:
        """(n,) float32, the LPIPS of each subset."""
        from noma_semcom_env.recovery.perceptual import PerceptualDistance
        from noma_semcom_env.recovery.pipeline import load_recovery

        count = len(job.subsets)
        return load_recovery(self.models, self.steps).distances(
            [job.features] * count,
            np.broadcast_to(job.image, (count, *job.image.shape)),
            subset_members(job.subsets, job.features.count),
            (job.seed,),
            PerceptualDistance(self.lpips_net),
        )[:, 0]


def compute_here(
    compute: Computation, jobs: Sequence[Job], processes: int | None = None
) -> Iterator[tuple[Job, np.ndarray]]:
    """Compute jobs in processes of this machine, one thread each.

    Args:
        compute: What is done with each job.
        jobs: The jobs.
        processes: Number of processes; all cores by default.

    Yields:
        Each job and its LPIPS, as soon as they are done.
    """
    with _one_thread_each():
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, initializer=_start_worker)
        try:
            running = {pool.submit(compute, job): job for job in jobs}
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            # On an error or Ctrl-C, jobs that wait are given up.
            pool.shutdown(cancel_futures=True)


def compute_on_ray(
    compute: Computation, jobs: Sequence[Job], address: str = "auto"
) -> Iterator[tuple[Job, np.ndarray]]:
    """Compute jobs on a Ray cluster; every node needs the package and, where models are folders, the same folders.

    Jobs that a lost worker or node held are computed again elsewhere.

    Args:
        compute: What is done with each job.
        jobs: The jobs.
        address: Of the cluster; ``"auto"`` finds a running one, ``"local"`` starts one on this machine. Not used if
            the process is connected already.

    Yields:
        Each job and its LPIPS, as soon as they are done.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("a Ray cluster needs the extra 'rllib': pip install 'noma-semcom-env[rllib]'") from error
    connected = ray.is_initialized()
    if not connected:
        ray.init(address, runtime_env={"env_vars": _ONE_THREAD}, log_to_driver=False, include_dashboard=False)
    remote = ray.remote(num_cpus=1, max_retries=_ATTEMPTS)(_compute)
    shared = ray.put(compute)
    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    try:
        # Twice as many as can run: enough for no core to wait, few enough for the images to stay out of the cluster.
        ahead = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
        while True:
            running |= {remote.remote(shared, job): job for job in islice(waiting, ahead - len(running))}
            if not running:
                return
            for done in ray.wait(list(running), num_returns=1)[0]:
                yield running.pop(done), ray.get(done)
    finally:
        for task in running:
            ray.cancel(task)
        if not connected:
            ray.shutdown()


def _compute(compute: Computation, job: Job) -> np.ndarray:
    import torch

    torch.set_num_threads(1)
    return compute(job)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers read the thread count at start-up: two processes beat two threads on small images."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    # A worker whose parent was killed would go on beside those of the next run.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C at a terminal reaches workers too; the parent ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
