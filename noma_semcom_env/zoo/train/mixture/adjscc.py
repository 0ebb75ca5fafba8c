"""Trains ADJSCC, the convolutional codec of DiffCom, on whole 128 x 128 street scenes.

    python -m noma_semcom_env.zoo.train.mixture.adjscc --device cuda

Data, rates and figures are those of :mod:`noma_semcom_env.zoo.train.mixture.image_codec`, kind ``whole``.
"""

from __future__ import annotations

import torch

from noma_semcom_env.mixture.convolutional import ADJSCC, STREET_ADJSCC
from noma_semcom_env.zoo.train.mixture.image_codec import codec_parser, fit_codec, parse_codec_options


def main() -> None:
    arguments = parse_codec_options(codec_parser(__doc__, steps=4000, rate=1e-3))
    torch.manual_seed(0)
    codec = ADJSCC(STREET_ADJSCC).to(memory_format=torch.channels_last)
    fit_codec("adjscc", codec, "whole", arguments)


if __name__ == "__main__":
    main()
