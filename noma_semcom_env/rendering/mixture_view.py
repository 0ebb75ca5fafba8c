"""What one frame of a Mixture of Semantics environment shows, and the same as text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_env.link.sic import squared_magnitude
from noma_semcom_env.mixture_scenario import MixtureNomaScenario
from noma_semcom_env.rendering.view import ordinal, seconds, table

if TYPE_CHECKING:
    from noma_semcom_env.mixture_dynamics import MixtureDynamics
    from noma_semcom_env.mixture_noma_dynamics import MixtureNomaDynamics
    from noma_semcom_env.mixture_parts import MixtureTransition

    AnyDynamics = MixtureDynamics | MixtureNomaDynamics


@dataclass(frozen=True)
class Delivery:
    """What became of a user's mixture.

    Attributes:
        cbr: Bandwidth ratio that was given.
        alpha: Share of it for the text.
        roi_uses: Channel uses of the region's symbols.
        text_uses: Channel uses of the text's symbols.
        mask_uses: Channel uses of the mask's bits at the rate that carries them; ``inf`` where that is 0.
        symbols_per_token: 0 where no text was sent.
        arrives_db: SNR in dB after equalization, or the SINR over the uplink.
        region_received: Whether any of the region arrived.
        psnr_roi_db: PSNR-ROI in dB.
        clip_roni: CLIP-RONI.
        token_error: Share of the tokens that arrived as others.
        worth: The reward without prices.
        worth_terms: What PSNR-ROI, CLIP-RONI and undecodable texts add to it.
        place: Place in the decoding order, ``"1st"`` and so on; empty for a single user.
    """

    cbr: float
    alpha: float
    roi_uses: float
    text_uses: float
    mask_uses: float
    symbols_per_token: int
    arrives_db: float
    region_received: bool
    psnr_roi_db: float
    clip_roni: float
    token_error: float
    worth: float
    worth_terms: tuple[float, float, float]
    place: str = ""

    @property
    def uses(self) -> float:
        """All channel uses."""
        return self.roi_uses + self.text_uses + self.mask_uses


@dataclass(frozen=True)
class Mixture:
    """One user's mixture.

    Attributes:
        item: Row of the items.
        snr_db: Mean SNR in dB, or p_k ||h_k||^2 / sigma^2 over the uplink.
        distance_m: Distance in m; None for a single user.
        margin: Index of the region's margin.
        sent: What became of it; None before the first step.
    """

    item: int
    snr_db: float
    distance_m: float | None = None
    margin: int = 0
    sent: Delivery | None = None


@dataclass(frozen=True)
class MixtureView:
    """What one frame shows.

    Attributes:
        step: Steps taken.
        mixtures: One a user: what was sent last, before the first step what will be sent.
        rewards: One a step that was seen.
        cost: What the last reward was less for latency, violation and CBR; None before the first step.
        latency_s: Latency of the last step in s; None without one, and for a single user.
        violated: Whether that exceeded the maximum.
    """

    step: int
    mixtures: tuple[Mixture, ...]
    rewards: tuple[float, ...] = ()
    cost: float | None = None
    latency_s: float | None = None
    violated: bool = False


def begun(state: Any, place: int, dynamics: AnyDynamics) -> MixtureView:
    """The view of an episode at ``place`` of a batch, before its next step."""
    one = state.rows(np.array([place]))
    return MixtureView(int(state.elapsed[place]), _mixtures(dynamics.privileged(one), 0, dynamics))


def moved(view: MixtureView, transition: MixtureTransition, place: int, dynamics: AnyDynamics) -> MixtureView:
    """The view after a step."""
    info, reward = transition.info, float(transition.reward[place])
    mixtures = _mixtures(info["privileged"], place, dynamics)
    uplink = isinstance(dynamics.scenario, MixtureNomaScenario)
    weight = dynamics.scenario.quality_weight if isinstance(dynamics.scenario, MixtureNomaScenario) else 1.0
    sent = tuple(
        replace(mixture, sent=one, margin=0 if uplink else _margin(info, place, dynamics))
        for mixture, one in zip(mixtures, _deliveries(info, place, dynamics), strict=True)
    )
    return MixtureView(
        step=int(transition.state.elapsed[place]),
        mixtures=sent,
        rewards=(*view.rewards, reward),
        cost=weight * float(np.mean(info["quality"][place])) - reward,
        latency_s=float(info["latency_s"][place]) if uplink else None,
        violated=uplink and bool(info["violations"][place]),
    )


def _mixtures(known: dict[str, Any], place: int, dynamics: AnyDynamics) -> tuple[Mixture, ...]:
    """The users' items and SNRs, from what references alone may read."""
    items = np.atleast_1d(known["image_index"][place])
    if "snr_db" in known:
        return (Mixture(int(items[0]), float(known["snr_db"][place])),)
    with np.errstate(divide="ignore"):
        gain = known["power_w"][place] * squared_magnitude(known["channel"][place]).sum(axis=-1)
        snr_db = 10 * np.log10(gain / known["noise_power_w"][place])
    return tuple(map(Mixture, items.tolist(), snr_db.tolist(), known["distances_m"][place].tolist()))


def _deliveries(info: dict[str, Any], place: int, dynamics: AnyDynamics) -> list[Delivery]:
    """What became of each user's mixture."""
    known = {name: np.atleast_1d(value[place]) for name, value in info.items() if name != "privileged"}
    users = len(known["quality"])
    if isinstance(dynamics.scenario, MixtureNomaScenario):
        bits = known["mask_bits"].astype(np.float64)
        mask_uses = np.where(bits > 0, np.inf, 0.0)
        rate = known["rate_bps"] / dynamics.scenario.bandwidth_hz
        np.divide(bits, rate, out=mask_uses, where=(rate > 0) & (bits > 0))
        places = [ordinal(int(one) + 1) for one in np.argsort(known["decoding_order"])]
        arrives_db, placed = known["sinr_db"], np.ones(users, dtype=bool)
    else:
        mask_uses, places = known["mask_symbols"].astype(np.float64), [""]
        arrives_db, placed = info["privileged"]["effective_snr_db"][[place]], known["mask_received"] > 0
    received = placed & (known["roi_symbols"] > 0)
    terms = np.stack(dynamics.worth_terms(known["psnr_roi_db"], known["clip_roni"], known["undecodable"]), axis=-1)
    return [
        Delivery(
            cbr=float(known["cbr"][user]),
            alpha=float(known["alpha"][user]),
            roi_uses=float(known["roi_symbols"][user]),
            text_uses=float(known["text_symbols"][user]),
            mask_uses=float(mask_uses[user]),
            symbols_per_token=int(known["symbols_per_token"][user]),
            arrives_db=float(arrives_db[user]),
            region_received=bool(received[user]),
            psnr_roi_db=float(known["psnr_roi_db"][user]),
            clip_roni=float(known["clip_roni"][user]),
            token_error=float(known["token_error"][user]),
            worth=float(known["quality"][user]),
            worth_terms=tuple((terms[user] + 0.0).tolist()),  # no minus before a 0
            place=places[user],
        )
        for user in range(users)
    ]


def _margin(info: dict[str, Any], place: int, dynamics: AnyDynamics) -> int:
    return int(np.searchsorted(dynamics.items.margins, info["margin_px"][place]))


_COLUMNS: Final = (
    *("user", "item", "SNR", "arrives", "order", "CBR", "mask", "ROI", "text"),
    *("PSNR-ROI", "CLIP-RONI", "wrong", "worth", "asked for"),
)


def to_text(view: MixtureView, dynamics: AnyDynamics) -> str:
    """A table, one line a user."""
    head = f"step {view.step}/{dynamics.scenario.episode_length}"
    if view.rewards:
        head += f"  reward {view.rewards[-1]:.4f}"
    if view.latency_s is not None:
        head += f"  latency {seconds(view.latency_s)}{' (above the maximum)' if view.violated else ''}"
    if view.rewards:
        head += f"  return {sum(view.rewards):.4f}"
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for user, one in enumerate(view.mixtures):
        name, asked = dynamics.items.item_ids[one.item], f'"{dynamics.items.prompts[one.item]}"'
        rows.append((f"SU {user + 1}", name, f"{one.snr_db:.1f} dB", *_outcome(one.sent), asked))
    return table(head, rows, right_from=2)


def _outcome(sent: Delivery | None) -> tuple[str, ...]:
    if sent is None:
        return ("-",) * 10
    return (
        f"{sent.arrives_db:.1f} dB",
        sent.place or "-",
        f"{sent.cbr:.3f}",
        f"{sent.mask_uses:.0f}",
        f"{sent.roi_uses:.0f}" if sent.region_received else f"{sent.roi_uses:.0f} lost",
        f"{sent.text_uses:.0f}",
        f"{sent.psnr_roi_db:.1f} dB",
        f"{sent.clip_roni:.3f}",
        f"{sent.token_error:.0%}",
        f"{sent.worth:.3f}",
    )
