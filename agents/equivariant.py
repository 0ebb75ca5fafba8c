"""The agents' default networks.

All users and all features share them, and nothing depends on how users, features and antennas are numbered. A feature
is encoded from its size, importance, modality and label; a user from its SNR, its last place in the order, what it
could send, and a message from every other user. What two users are to each other is told by the rates that follow from
the observed channels, and what sending costs by the time that it takes (:mod:`~noma_semcom_agents.channels`), since
these are what a network of this size cannot work out by itself. A feature's logit is read from its own code, its time
and its user's code, which has seen all others. What is learned of a label therefore carries over to every image, every
user and other numbers of both.

The same networks serve all three agents: they differ in what they control, not in what they see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from noma_semcom_agents.channels import Airtimes, alignment_of, bits_of, inner_products, link_rates, turned
from noma_semcom_agents.reading import BEAM_LOG_STD, PRIORITY_LOG_STD, joined

READS: Final = frozenset(
    ("snr", "direction", "last_order", "bandwidth", "size", "importance", "modality", "label", "action_mask")
)
"""Entries of the ``"features"`` observation that the networks need."""

FEATURES_TOGETHER: Final = 4.0
"""Divides sums over features, so that they stay near 1."""

_ROWS_AT_ONCE: Final = 512


class FeatureCode(nn.Module):
    """Codes of features, computed for those that may be sent alone.

    Half of the places are empty, and most of the time goes into what is done for each of them.

    Args:
        labels: Size of the label vocabulary.
        width: Width of the codes.
        label_width: Width of a label's embedding.
    """

    def __init__(self, labels: int, width: int, label_width: int) -> None:
        super().__init__()
        self.labels = labels
        self.embedding = nn.Embedding(labels, label_width)
        self.code = nn.Sequential(nn.Linear(label_width + 4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def forward(self, observation: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (n, width) of the n features where ``mask``, of B * K * F entries, is not 0, and their places (n,)."""
        place = torch.nonzero(mask.flatten()).squeeze(-1)
        number = (observation["label"].float().flatten()[place] + 1.0) * (0.5 * (self.labels - 1))
        embedded = self.embedding(number.round().long().clamp(0, self.labels - 1))
        plain = [observation[name].float().flatten()[place, None] for name in ("size", "importance", "modality")]
        # The size is shown on a logarithmic scale, but what adds up to a demand is the bits themselves.
        kilobits = bits_of(plain[0]) / 1000.0
        return self.code(torch.cat([embedded, *plain, kilobits], -1)), place


class SharedCode(nn.Module):
    """Codes of features, of users and of pairs of users; see the module's text.

    Args:
        labels: Size of the label vocabulary.
        width: Width of the hidden layers.
        label_width: Width of a label's embedding.
        sums: Number of sums over features that describe a user, 1 or 2.
        times: Numbers beside them that tell of a user's times, 0 or 4.
    """

    def __init__(self, labels: int, width: int, label_width: int, sums: int, times: int = 0) -> None:
        super().__init__()
        self.of_features = FeatureCode(labels, width, label_width)
        self.of_link = nn.Linear(8, width)
        self.of_other = nn.Linear(width, width, bias=False)
        self.of_user = nn.Sequential(nn.Linear(5 + times + (sums + 1) * width, width), nn.ReLU())
        self.among_users = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU())

    def features(self, observation: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """(B, K, F, width) code of each feature, 0 where ``mask`` (B, K, F, 1) is."""
        code, place = self.of_features(observation, mask)
        return code.new_zeros(mask.numel(), code.shape[-1]).index_copy(0, place, code).view(*mask.shape[:3], -1)

    def links(self, observation: Mapping[str, Tensor], rates: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, K, 5) what a user knows of itself, and (B, K, K, width) what it knows of each other one."""
        snr = observation["snr"].float()
        alignment = alignment_of(observation["direction"].float().view(*snr.shape, -1))
        # What a receiver keeps of a user while it nulls another one, in dB like the SNR, hence additive to it.
        left = torch.log10((1.0 - alignment).clamp_min(1e-3)) / 1.5 + 1.0
        alone, first, pair, rest = rates or link_rates(observation["snr"], observation["direction"])
        own = torch.stack(
            [snr, observation["last_order"].float(), observation["bandwidth"].float().expand_as(snr), alone, first], -1
        )
        both = [snr[:, :, None].expand_as(alignment), snr[:, None].expand_as(alignment), alignment, left]
        link: Tensor = self.of_link(torch.stack([*both, pair, pair.transpose(1, 2), rest, rest.transpose(1, 2)], -1))
        return own, link

    def users(self, own: Tensor, link: Tensor, sent: Tensor, *sums: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of users that send ``sent``.

        Args:
            own: Of :meth:`links`.
            link: Of :meth:`links`.
            sent: (..., B, K, width) sums of the codes of features that are sent, or could be.
            *sums: Further sums over features, of the same shape without the leading axes.

        Returns:
            (..., B, K, width) codes of users, and (..., B, K, K, width) of pairs, user k's of user j at [k, j].
        """
        pairs = torch.relu(link + self.of_other(sent)[..., None, :, :])
        apart = 1.0 - torch.eye(own.shape[1], device=own.device)
        messages = (pairs * apart[:, :, None]).sum(-2)
        known = torch.cat([own, *sums], -1)
        code = self.of_user(torch.cat([known.expand(*sent.shape[:-1], -1), sent, messages], -1))
        mean, most = code.mean(-2, keepdim=True), code.amax(-2, keepdim=True)
        return self.among_users(torch.cat([code, mean.expand_as(code), most.expand_as(code)], -1)), pairs


def summed(code: Tensor, owner: Tensor, users: int) -> Tensor:
    """Sums (users, width) of the codes (n, width) of each owner (n,), scaled so that they stay near 1."""
    return code.new_zeros(users, code.shape[-1]).index_add(0, owner, code) / FEATURES_TOGETHER


class EquivariantActor(nn.Module):
    """Logits of the selection and, in the model-free form, beams and priorities.

    A beam is a sum of its user's channel direction and those of the others, turned by their inner product with it:
    w_k = d_k + sum_j c_kj <d_j, d_k> d_j with real c_kj that the network gives, scaled to norm 1. With one interferer,
    c = -1 nulls it. Antennas may thus be any many, and a common rotation of all channels rotates all beams.

    Args:
        settings: ``labels``, ``width``, ``label_width``, and ``beams`` and ``priorities``, 0 where not controlled.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.code = SharedCode(settings["labels"], width, settings["label_width"], sums=1, times=4)
        self.of_pair_times = nn.Linear(6, width, bias=False)
        self.user_to_head = nn.Linear(width, width)
        self.feature_to_head = nn.Linear(width, width, bias=False)
        self.time_to_head = nn.Linear(4, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)
        # Starting near probability 1/2 for every bit keeps the first steps of training exploring.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.transmits = settings["beams"] > 0
        if self.transmits:
            self.beam_head, self.priority_head = nn.Linear(width, 1), nn.Linear(width, 1)
            for layer in (self.beam_head, self.priority_head):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
            self.log_std = nn.Parameter(torch.tensor([BEAM_LOG_STD, PRIORITY_LOG_STD]))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(B, K * F) logits; in the model-free form followed by means and log deviations, see ``reading.joined``."""
        batch, users = observation["snr"].shape
        mask = observation["action_mask"].float().view(batch, users, -1)
        code, place = self.code.of_features(observation, mask)
        owner = place.div(mask.shape[-1], rounding_mode="floor")
        times = Airtimes(observation, mask)
        # A sum, not a mean: how much could be sent matters, not only what it is like.
        everything = summed(code, owner, batch * users).view(batch, users, -1)
        own, link = self.code.links(observation, times.rates)
        own_times, pair_times = times.of_users(times.bits.sum(-1))
        user, pairs = self.code.users(
            torch.cat([own, own_times], -1), link + self.of_pair_times(pair_times), everything
        )
        hidden = self.feature_to_head(code) + self.time_to_head(times.of_features().flatten(0, 2)[place])
        hidden = torch.relu(hidden + self.user_to_head(user).flatten(0, 1)[owner])
        scores = self.head(torch.relu(self.hidden(hidden))).squeeze(-1)
        logits = scores.new_zeros(mask.numel()).index_copy(0, place, scores).view(batch, -1)
        if not self.transmits:
            return logits
        beams = self._beams(observation["direction"].float().view(batch, users, -1), self.beam_head(pairs).squeeze(-1))
        return joined(logits, beams.flatten(1), torch.tanh(self.priority_head(user)).flatten(1), self.log_std)

    @staticmethod
    def _beams(direction: Tensor, weight: Tensor) -> Tensor:
        """(B, K, 2N) of norm 1, laid out like ``direction`` (B, K, 2N); ``weight`` (B, K, K) holds c."""
        real, imaginary = inner_products(direction)
        weight = weight * (1.0 - torch.eye(weight.shape[-1], device=weight.device))
        across = turned(direction)
        beams = direction + (weight * real) @ direction + (weight * imaginary) @ across
        return nn.functional.normalize(beams, dim=-1)


class EquivariantCritic(nn.Module):
    """Value of a situation, or of a selection in a situation.

    Args:
        settings: ``labels``, ``width`` and ``label_width``.
        of_selection: Whether :meth:`forward` takes a selection.
    """

    def __init__(self, settings: Mapping[str, Any], of_selection: bool) -> None:
        super().__init__()
        width = settings["width"]
        self.of_selection = of_selection
        self.code = SharedCode(settings["labels"], width, settings["label_width"], sums=1 + of_selection)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 1)

    def forward(self, observation: Mapping[str, Tensor], selection: Tensor | None = None) -> Tensor:
        """(B,) values; ``selection`` is (B, K * F), given if and only if the critic is one of selections."""
        code, own, link, all_sums = self._encode(observation)
        if selection is None:
            return self._value(own, link, all_sums)
        chosen = selection.float().view(*code.shape[:3], 1)
        return self._value(own, link, (code * chosen).sum(2) / FEATURES_TOGETHER, all_sums)

    def without_and_with(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor]:
        """Values if one bit of the selection were 0, and if it were 1, the others staying; both (B, K * F)."""
        rows = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(selection), _ROWS_AT_ONCE)]
        parts = [self._flips({k: v[some] for k, v in observation.items()}, selection[some]) for some in rows]
        value, flipped = (torch.cat(each) for each in zip(*parts, strict=True))
        on = selection > 0
        return torch.where(on, flipped, value[:, None]), torch.where(on, value[:, None], flipped)

    def _flips(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) values, and (B, K * F) those with one bit the other way."""
        code, own, link, all_sums = self._encode(observation)
        batch, users, features, _ = code.shape
        chosen = selection.float().view(batch, users, features, 1)
        sent = (code * chosen).sum(2) / FEATURES_TOGETHER
        change = code * (1.0 - 2.0 * chosen) / FEATURES_TOGETHER
        flipped = torch.empty(batch, users, features, device=code.device)
        for user in range(users):
            moved = sent.expand(features, *sent.shape).clone()
            moved[:, :, user] += change[:, user].transpose(0, 1)
            flipped[:, user] = self._value(own, link, moved, all_sums).transpose(0, 1)
        return self._value(own, link, sent, all_sums), flipped.flatten(1)

    def _encode(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mask = observation["action_mask"].float().view(*observation["snr"].shape, -1, 1)
        code = self.code.features(observation, mask)
        own, link = self.code.links(observation)
        return code, own, link, code.sum(2) / FEATURES_TOGETHER

    def _value(self, own: Tensor, link: Tensor, sent: Tensor, *sums: Tensor) -> Tensor:
        user, _ = self.code.users(own, link, sent, *sums)
        value: Tensor = self.head(self.hidden(user)).mean((-2, -1))
        return value
