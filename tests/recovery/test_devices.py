"""What differs between a CPU and a GPU: sizes of batches and jobs, the precision of products, and nothing else."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.backends import cudnn

from noma_semcom_env.recovery import tabulate as module
from noma_semcom_env.recovery.live import LiveRecovery
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import DiffusionRecovery, load_recovery
from noma_semcom_env.recovery.subsets import subset_members, subset_selections
from noma_semcom_env.recovery.table import load_table
from noma_semcom_env.recovery.tabulate import Recipe, tabulate
from noma_semcom_env.recovery.workers import Computation, Job

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def recovery() -> DiffusionRecovery:
    return load_recovery("street")


def test_segmentation_maps_are_the_sent_masks_in_their_colours(recovery: DiffusionRecovery) -> None:
    table = load_table("street-validation")
    rows = [2, 2, 5, 9, 9, 9]
    features = [table.features[row] for row in rows]
    sent = [
        one.selected(row)[0] for one, row in zip(features, np.random.default_rng(0).random((6, 10)) < 0.5, strict=True)
    ]
    pictures = recovery._conditioning(features, sent).numpy()
    for picture, one, chosen in zip(pictures, features, sent, strict=True):
        wanted = np.zeros((64, 64, 3), dtype=np.float32)
        for mask, label, on in zip(one.masks, one.mask_labels, chosen, strict=True):
            if on:
                wanted[mask] = recovery.palette[label]
        np.testing.assert_array_equal(picture.transpose(1, 2, 0), wanted / np.float32(255))


def test_a_label_without_a_colour_and_an_image_without_masks_are_black(
    recovery: DiffusionRecovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load_table("street-validation").features[0]
    visual = len(one.mask_labels)
    bare = replace(
        one,
        masks=one.masks[:0],
        mask_labels=(),
        matches=None,
        **{name: getattr(one, name)[visual:] for name in ("size_bits", "importance", "kept")},
    )
    pictures = recovery._conditioning([bare, bare], [np.zeros(0, dtype=bool)] * 2)
    assert pictures.shape == (2, 3, 64, 64)
    assert not pictures.any()
    monkeypatch.setattr(recovery, "palette", {})
    assert not recovery._conditioning([one], [np.ones(visual, dtype=bool)]).any()


@pytest.mark.parametrize(("allow_tf32", "wanted"), [(False, "ieee"), (True, "tf32")])
def test_convolutions_of_a_gpu_are_exact_unless_tf32_is_allowed(
    recovery: DiffusionRecovery, monkeypatch: pytest.MonkeyPatch, allow_tf32: bool, wanted: str
) -> None:
    before = cudnn.conv.fp32_precision
    with recovery._precision():
        assert cudnn.conv.fp32_precision == before
    monkeypatch.setattr(recovery, "device", torch.device("cuda"))
    monkeypatch.setattr(recovery, "allow_tf32", allow_tf32)
    with recovery._precision():
        assert cudnn.conv.fp32_precision == wanted
    assert cudnn.conv.fp32_precision == before


@pytest.mark.parametrize(("on_gpu", "sizes"), [(False, [256, 256, 256, 256]), (True, [1024])])
def test_jobs_are_larger_on_a_gpu(
    on_gpu: bool, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = load_table("street-validation")
    row = next(i for i, one in enumerate(table.features) if one.count == 10)
    seen = []

    def computed(
        compute: Computation, jobs: list[Job], processes: int | None
    ) -> Generator[tuple[Job, np.ndarray], None, None]:
        for job in jobs:
            seen.append(len(job.subsets))
            yield job, np.full(len(job.subsets), 0.5, dtype=np.float32)

    monkeypatch.setattr(Computation, "on_gpu", lambda self, cluster: on_gpu)
    monkeypatch.setattr(module, "compute_here", computed)
    recipe = Recipe(seeds=(0,))
    made = tabulate(table.images[[row]], [table.features[row]], tmp_path / "one.npz", recipe)
    assert seen == sizes
    assert (made.lpips_by_seed == 0.5).all()


def test_a_cluster_lends_a_gpu_only_if_the_device_is_named() -> None:
    assert not Computation("sd15", 20, "alex").on_gpu(cluster=True)
    assert not Computation("sd15", 20, "alex", "cpu").on_gpu(cluster=True)
    assert Computation("sd15", 20, "alex", "cuda").on_gpu(cluster=True)  # this machine may have none
    assert not Computation("street", 3, "alex").on_gpu(cluster=False)


@on_a_gpu
@pytest.mark.parametrize("split", ["street-policy", "street-validation", "street-test"])
def test_a_gpu_gives_the_entries_of_a_table(split: str) -> None:
    table = load_table(split)
    on_gpu = load_recovery("street", int(table.provenance["denoising_steps"]), "cuda")
    chosen = subset_selections(table.features[0].count, table.width)
    raw = np.broadcast_to(table.images[0], (len(chosen), *table.images[0].shape))
    seeds = table.provenance["diffusion_seeds"]
    made = on_gpu.distances([table.features[0]] * len(chosen), raw, chosen, seeds, PerceptualDistance())
    assert np.abs(made.mean(1) - table.mean[0, : len(chosen)]).max() < 1e-3


@on_a_gpu
def test_a_gpu_recovers_single_selections_as_it_does_many() -> None:
    table = load_table("street-validation")
    live, distance = LiveRecovery.from_table(table), PerceptualDistance()
    on_gpu = load_recovery("street", None, "cuda")
    selection = subset_members(np.array([77]), table.width)
    made = on_gpu.distances([table.features[1]], table.images[1:2], selection, live.seeds, distance)
    assert made.mean() == pytest.approx(float(live.lpips(np.array([1]), selection)[0]), abs=1e-3)
