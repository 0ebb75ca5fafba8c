"""Where recoveries are computed for a table: processes of this machine, or the nodes of a Ray cluster.

Either way a :class:`Job` goes out and its LPIPS comes back. A job depends on nothing but its own fields, so one that a
lost worker held is simply computed again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import subset_members
from noma_semcom_env.zoo.devices import choose_device
from noma_semcom_env.zoo.presets import Models, load_preset

_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_ATTEMPTS: Final = 5
_PATIENCE_S: Final = 10.0


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
    """What is done with each job: models, denoising steps, LPIPS network, and where (None is what suits the preset)."""

    models: Models
    steps: int
    lpips_net: str
    device: str | None = None

    def on_gpu(self, cluster: bool) -> bool:
        """Whether jobs run on a GPU: of this machine, or of a cluster, which lends one if the device is named."""
        if cluster:
            return (self.device or "cpu") != "cpu"
        return choose_device(load_preset(self.models), self.device) != "cpu"

    def __call__(self, job: Job) -> np.ndarray:
        """(n,) float32, the LPIPS of each subset."""
        from noma_semcom_env.recovery.perceptual import PerceptualDistance
        from noma_semcom_env.recovery.pipeline import load_recovery

        count = len(job.subsets)
        return load_recovery(self.models, self.steps, self.device).distances(
            [job.features] * count,
            np.broadcast_to(job.image, (count, *job.image.shape)),
            subset_members(job.subsets, job.features.count),
            (job.seed,),
            PerceptualDistance(self.lpips_net),
        )[:, 0]


def compute_here(
    compute: Computation, jobs: Sequence[Job], processes: int | None = None
) -> Generator[tuple[Job, np.ndarray], None, None]:
    """Compute jobs in processes of this machine, one thread each.

    Args:
        compute: What is done with each job.
        jobs: The jobs.
        processes: Number of processes; by default one for all cores together on a GPU, and one a core otherwise.

    Yields:
        Each job and its LPIPS, as soon as they are done.
    """
    if not jobs:
        return
    if processes is None and compute.on_gpu(cluster=False):
        processes = 1
    with _one_thread_each():
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_start_worker)
        running = {pool.submit(compute, job): job for job in jobs}
        try:
            for done in as_completed(running):
                yield running.pop(done), done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if running:  # after an error or Ctrl-C; jobs that wait or are under way are given up
                for worker in set(multiprocessing.active_children()) - before:
                    worker.terminate()
            pool.shutdown()


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connection to a Ray cluster, ended afterwards unless the process had one before.

    Args:
        address: Of the cluster; ``"auto"`` finds a running one, ``"local"`` starts one on this machine. None connects
            to none.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    if address is None:
        yield
        return
    try:
        import ray
    except ImportError as error:
        raise ImportError("a Ray cluster needs the extra 'rllib': pip install 'noma-semcom-env[rllib]'") from error
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, include_dashboard=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            f"there is no Ray cluster at {address!r} ({error}); start one with 'ray start --head', or give 'local'"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens; Ray itself waits for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()


def compute_on_ray(
    compute: Computation, jobs: Sequence[Job], address: str = "auto"
) -> Generator[tuple[Job, np.ndarray], None, None]:
    """Compute jobs on a Ray cluster; every node needs the package and, where models are folders, the same folders.

    Jobs that a lost worker or node held are computed again elsewhere. A job takes a core, or a GPU if the computation
    names one as its device.

    Args:
        compute: What is done with each job.
        jobs: The jobs.
        address: See :func:`ray_cluster`.

    Yields:
        Each job and its LPIPS, as soon as they are done.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    with ray_cluster(address):
        import ray

        on_gpu = compute.on_gpu(cluster=True)
        remote = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_retries=_ATTEMPTS)(_compute)
        # Ray no longer hides its GPUs from tasks that ask for none.
        shared = ray.put(compute if on_gpu else replace(compute, device="cpu"))
        waiting = iter(jobs)
        running: dict[Any, Job] = {}
        # Twice as many as can run: enough for none to wait, few enough for the images to stay out of the cluster.
        ahead = max(2, 2 * int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1)))
        try:
            while True:
                running |= {remote.remote(shared, job): job for job in islice(waiting, ahead - len(running))}
                if not running:
                    return
                for done in ray.wait(list(running), num_returns=1)[0]:
                    yield running.pop(done), ray.get(done)
        finally:
            for task in running:
                ray.cancel(task)


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
    # Ctrl-C at a terminal reaches workers too; the parent ends them, without a traceback of each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
