"""The whole chain of a mixture: prompt, region, caption, codecs, channel, painting. Needs torch.

The sender turns an image and a prompt into a region of interest (ROI) and a caption of the rest (RONI) and sends both;
the receiver decodes them, paints the rest from the text and pastes the region; where nothing of a region arrives, it
paints the whole image. Everything on the way is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from noma_semcom_env.mixture.budget import (
    Split,
    mask_arrives,
    mask_cost,
    split_symbols,
    symbols_per_token,
    total_symbols,
)
from noma_semcom_env.mixture.captions import head_of, leave_out
from noma_semcom_env.mixture.image_codec import ImageCodec
from noma_semcom_env.mixture.inpainting import Inpainting
from noma_semcom_env.mixture.items import grow
from noma_semcom_env.mixture.metrics import ClipScore, psnr_roi
from noma_semcom_env.mixture.regions import NamedBoxes, Prompt, RegionFinder, mask_bits
from noma_semcom_env.mixture.sending import check_images, send_regions, send_texts, token_errors
from noma_semcom_env.mixture.text_codec import TextCodec, to_captions, to_tokens


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the sender makes of B images and prompts before it knows the channel.

    Attributes:
        images: (B, H, W, 3) uint8.
        regions: (B, H, W) bool, what is sent as an image; margins included.
        targets: (B, H, W) bool, the pixels over which PSNR-ROI is measured.
        captions: B captions of the rest.
        ids: (B, T) int64 tokens of the captions, end tokens behind.
        tokens: (B,) int64 tokens to send, the end token included.
        mask_bits: (B,) int64 bits of the coded masks.
    """

    images: np.ndarray
    regions: np.ndarray
    targets: np.ndarray
    captions: tuple[str, ...]
    ids: np.ndarray
    tokens: np.ndarray
    mask_bits: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Reception:
    """What became of B mixtures.

    Attributes:
        prepared: What was to be sent.
        split: Symbols of text, mask and ROI.
        symbols_per_token: (B,) int64; 0 where no text was sent.
        snr_db: (B,) mean SNR.
        effective_db: (B,) SNR after equalization.
        mask_received: (B,) bool; without its mask a region is lost.
        ids: (B, T) int64 tokens as received.
        captions: B captions as received, empty where no text was sent.
        token_error: (B,) share of the tokens received as others; 1 where none was sent.
        received: (B, H, W, 3) uint8, the regions as decoded, grey elsewhere.
        painted: (B, H, W, 3) uint8, the result: the regions as received and the rest painted, or all of an image
            painted where nothing of its region arrived.
        psnr_roi_db: (B,) over the targets, of the regions as received: before painting, grey where a region is lost.
        clip_roni: (B,); NaN where the region is the whole image, which leaves no rest.
        lpips: (B,), or None without a perceptual distance.
    """

    prepared: Prepared
    split: Split
    symbols_per_token: np.ndarray
    snr_db: np.ndarray
    effective_db: np.ndarray
    mask_received: np.ndarray
    ids: np.ndarray
    captions: tuple[str, ...]
    token_error: np.ndarray
    received: np.ndarray
    painted: np.ndarray
    psnr_roi_db: np.ndarray
    clip_roni: np.ndarray
    lpips: np.ndarray | None


class Transceiver:
    """Sends mixtures of semantics.

    Args:
        image_codec: For the regions.
        text_codec: For the captions.
        tokenizer: The ``CLIPTokenizer`` of both text codec and painter.
        painter: Paints the rest.
        judge: Measures CLIP-RONI.
        finder: Finds what prompts point at.
        captioner: (B, H, W, 3) uint8 images to B captions, such as BLIP's.
        encode_mask: A lossless code of one (H, W) bool mask, see :func:`~noma_semcom_env.mixture.regions.mask_bits`.
        perceptual: LPIPS of (B, 3, H, W) float images in [0, 1], such as
            :class:`~noma_semcom_env.recovery.perceptual.PerceptualDistance`; None measures none.
        kinds: Names of kinds of things, by which a referring expression tells what its region is.
        origin: What the models are, for the record of tables made with them.
        receiving: What they would be with the usual parts for those that only look at images before anything is sent;
            tables of that origin have the same qualities. None is ``origin``.
    """

    def __init__(
        self,
        image_codec: ImageCodec,
        text_codec: TextCodec,
        tokenizer: Any,
        painter: Inpainting,
        judge: ClipScore,
        finder: RegionFinder,
        captioner: Callable[[np.ndarray], Sequence[str]],
        encode_mask: Callable[[np.ndarray], Sized],
        perceptual: Callable[[Any, Any], Any] | None = None,
        kinds: Sequence[str] = (),
        origin: Mapping[str, Any] | None = None,
        receiving: Mapping[str, Any] | None = None,
    ) -> None:
        self.image_codec, self.text_codec, self.tokenizer = image_codec, text_codec, tokenizer
        self.painter, self.judge, self.finder = painter, judge, finder
        self.captioner, self.encode_mask, self.perceptual = captioner, encode_mask, perceptual
        self.kinds, self.origin = tuple(kinds), dict(origin or {})
        self.receiving = self.origin if receiving is None else dict(receiving)

    def prepare(
        self,
        images: np.ndarray,
        prompts: Sequence[Prompt],
        *,
        kinds: Sequence[str | None] | None = None,
        named: Sequence[NamedBoxes] | None = None,
        targets: np.ndarray | None = None,
        margin: int = 0,
    ) -> Prepared:
        """Find the regions and say the rest.

        Args:
            images: (B, H, W, 3) uint8 of the image codec's side.
            prompts: B prompts, one an image.
            kinds: What kind of thing each region is, whose phrase the caption then leaves out, see
                :func:`~noma_semcom_env.mixture.captions.leave_out`. None takes the first kind that a referring
                expression names, and leaves the captions of other prompts whole. In free texts that need not be the
                kind of the region: "orange shirt guy" names an orange, "umbrella girl" an umbrella. Give the kinds
                where they are known.
            named: Expressions and boxes known of each image.
            targets: (B, H, W) bool, pixels over which PSNR-ROI is measured; None is the regions without their margin.
            margin: Pixels by which the regions are grown before they are sent.

        Raises:
            ValueError: If the arguments do not fit, or a prompt is empty or outside its image.
            RegionError: If the segmentation model finds nothing at a prompt.
        """
        check_images(self.image_codec, images)
        for name, values in (("prompts", prompts), ("kinds", kinds), ("named", named), ("targets", targets)):
            if values is not None and len(values) != len(images):
                raise ValueError(f"{name} has {len(values)} entries for {len(images)} images; one each is needed")
        known = [()] * len(images) if named is None else named
        found = [
            self.finder.find(image, [prompt], boxes)[0]
            for image, prompt, boxes in zip(images, prompts, known, strict=True)
        ]
        exact = np.stack(found) if found else np.zeros(images.shape[:3], dtype=bool)
        regions = np.stack([grow(region, margin) for region in exact]) if found else exact
        captions = tuple(self.captioner(images)) if found else ()
        if kinds is None:
            kinds = [head_of(prompt, self.kinds) if isinstance(prompt, str) else None for prompt in prompts]
        captions = tuple(leave_out(caption, kind) for caption, kind in zip(captions, kinds, strict=True))
        # A region that is the whole image leaves nothing to be said.
        captions = tuple("" if region.all() else caption for caption, region in zip(captions, regions, strict=True))
        return self.of(images, regions, exact if targets is None else targets, captions)

    def run(
        self,
        images: np.ndarray,
        prompts: Sequence[Prompt],
        alpha: Any,
        cbr: Any,
        snr_db: Any,
        channel: str = "awgn",
        *,
        kinds: Sequence[str | None] | None = None,
        named: Sequence[NamedBoxes] | None = None,
        margin: int = 0,
        **options: Any,
    ) -> Reception:
        """:meth:`prepare` and :meth:`transmit` in one; ``options`` are the latter's."""
        prepared = self.prepare(images, prompts, kinds=kinds, named=named, margin=margin)
        return self.transmit(prepared, alpha, cbr, snr_db, channel, **options)

    def of(
        self, images: np.ndarray, regions: np.ndarray, targets: np.ndarray, captions: Sequence[str], bits: Any = None
    ) -> Prepared:
        """What is to be sent of images whose regions and captions are known.

        Args:
            images: (B, H, W, 3) uint8.
            regions: (B, H, W) bool.
            targets: (B, H, W) bool.
            captions: B captions.
            bits: (B,) bits of the masks; None codes them.
        """
        ids, tokens = to_tokens(self.tokenizer, list(captions), self.text_codec.config.max_tokens)
        size = mask_bits(regions, self.encode_mask) if bits is None else np.asarray(bits)
        return Prepared(images, regions, targets, tuple(captions), ids.numpy(), tokens.numpy(), size)

    def transmit(
        self,
        prepared: Prepared,
        alpha: Any,
        cbr: Any,
        snr_db: Any,
        channel: str = "awgn",
        *,
        accounting: str = "counted",
        outage: float = 0.1,
        fades: np.ndarray | None = None,
        seed: int = 0,
    ) -> Reception:
        """Send mixtures, each over a block of its own, and receive them.

        Args:
            prepared: B mixtures.
            alpha: Share of the symbols for the text, in [0, 1]; one number or (B,), likewise the next two.
            cbr: Complex symbols a real source sample, at least 0.
            snr_db: Mean SNR in dB of a complex symbol; at ``-inf`` nothing arrives.
            channel: ``"awgn"``, or ``"rayleigh"``: one fade h a mixture, known to the receiver alone.
            accounting: ``"counted"`` takes the mask's symbols from the budget, ``"paper"`` lets it arrive for nothing.
            outage: Probability with which a Rayleigh fade falls short of the mask's rate.
            fades: (B,) complex h; None draws CN(0, 1) from the seed, or is 1 over AWGN.
            seed: Of noise, fades and painting.

        Raises:
            ValueError: If an argument is out of range or does not fit.
        """
        batch = len(prepared)
        share, ratio, mean_db = (
            _one_each(n, v, batch) for n, v in (("alpha", alpha), ("cbr", cbr), ("snr_db", snr_db))
        )
        if np.isnan(mean_db).any():
            raise ValueError(f"snr_db={snr_db!r} holds NaN; numbers of dB are needed, -inf where nothing arrives")
        cost = mask_cost(prepared.mask_bits, mean_db, channel, outage, accounting)
        split = split_symbols(share, total_symbols(ratio, prepared.images[0].size if batch else 0), cost)
        if fades is None:
            parts = np.random.default_rng(seed).standard_normal((batch, 2)) * np.sqrt(0.5)
            fades = parts[:, 0] + 1j * parts[:, 1] if channel == "rayleigh" else np.ones(batch)
        with np.errstate(divide="ignore"):
            effective_db = mean_db + 20 * np.log10(np.abs(fades))
        config = self.text_codec.config
        each = symbols_per_token(split.text, prepared.tokens, config.min_symbols, config.max_symbols)
        arrived = split.mask_sent & mask_arrives(mean_db, effective_db, channel, outage, accounting)
        return self.receive(prepared, split, each, mean_db, effective_db, arrived, seed)

    def receive(
        self,
        prepared: Prepared,
        split: Split,
        each: np.ndarray,
        snr_db: np.ndarray,
        effective_db: np.ndarray,
        mask_received: np.ndarray,
        seed: int = 0,
    ) -> Reception:
        """What arrives of mixtures whose symbols are divided already.

        Nothing of a region arrives without its mask, without symbols, or at an effective SNR of minus infinity.

        Args:
            prepared: B mixtures.
            split: Their symbols.
            each: (B,) symbols a token, 0 where no text is sent.
            snr_db: (B,) mean SNR in dB.
            effective_db: (B,) SNR in dB after equalization; ``-inf`` where nothing arrives.
            mask_received: (B,) bool.
            seed: Of noise and painting.
        """
        seeds = np.full(len(prepared), seed)
        placed = np.where(mask_received, split.roi, 0)
        received = send_regions(
            self.image_codec, prepared.images, prepared.regions, placed, snr_db, effective_db, seeds
        )
        ids = send_texts(self.text_codec, prepared.ids, prepared.tokens, each, snr_db, effective_db, seeds)
        spoken = np.where(np.isneginf(effective_db), 0, each)
        captions = tuple(to_captions(self.tokenizer, _tensor(ids)))
        arrived = (placed > 0) & ~np.isneginf(effective_db)
        painted = self.paint(received, prepared.regions & arrived[:, None, None], captions, seed)
        return Reception(
            prepared=prepared,
            split=split,
            symbols_per_token=each,
            snr_db=snr_db,
            effective_db=effective_db,
            mask_received=mask_received,
            ids=ids,
            captions=captions,
            token_error=token_errors(ids, prepared.ids, prepared.tokens, spoken),
            received=received,
            painted=painted,
            psnr_roi_db=psnr_roi(received, prepared.images, prepared.targets),
            clip_roni=self.clip_roni(painted, prepared.regions, prepared.captions),
            lpips=None if self.perceptual is None else self._lpips(prepared.images, painted),
        )

    def paint(self, received: np.ndarray, known: np.ndarray, captions: Sequence[str], seed: int) -> np.ndarray:
        """(B, H, W, 3) uint8: what is not known, painted from the captions; see :class:`Inpainting`."""
        if not len(received):
            return received
        return np.asarray(self.painter.paint(received, known, list(captions), (seed,))[:, 0])

    def clip_roni(self, painted: np.ndarray, regions: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """(B,) CLIP-RONI, NaN where the region leaves no rest."""
        values = np.full(len(painted), np.nan)
        rest = np.flatnonzero(~regions.all(axis=(1, 2)))
        if len(rest):
            values[rest] = self.judge.roni(painted[rest], regions[rest], [captions[int(i)] for i in rest])
        return values

    def _lpips(self, images: np.ndarray, painted: np.ndarray) -> np.ndarray:
        import torch

        assert self.perceptual is not None
        pairs = [_tensor(values).permute(0, 3, 1, 2).float() / 255 for values in (images, painted)]
        with torch.inference_mode():
            return np.asarray(self.perceptual(*pairs).double().cpu().numpy())


def _one_each(name: str, value: Any, batch: int) -> np.ndarray:
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (batch,)):
        raise ValueError(f"{name} has shape {values.shape}; one number, or one for each of the {batch} mixtures")
    return np.broadcast_to(values, (batch,)).copy()


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)
