"""The Mixture of Semantics environments: the shells of the suite over the mixture's dynamics."""

from __future__ import annotations

from typing import Any

from noma_semcom_env.envs.single import NomaSemComEnv
from noma_semcom_env.envs.vector import NomaSemComVectorEnv
from noma_semcom_env.mixture_dynamics import MixtureDynamics
from noma_semcom_env.mixture_noma_dynamics import MixtureNomaDynamics
from noma_semcom_env.mixture_scenario import MixtureBase, MixtureNomaScenario, MixtureScenario
from noma_semcom_env.rendering import MixtureRenderer


class _Shell(NomaSemComEnv):
    """The single shell over other dynamics of the same form, with pictures of its own."""

    def __init__(self, scenario: MixtureBase | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(scenario, None, None, **knobs)  # type: ignore[arg-type]  # of its own class
        self.render_mode = render_mode
        if render_mode is not None:
            self._renderer = MixtureRenderer(render_mode, self.dynamics)  # type: ignore[assignment]  # likewise


class _VectorShell(NomaSemComVectorEnv):
    """The vectorized shell likewise."""

    def __init__(
        self,
        num_envs: int = 1,
        scenario: MixtureBase | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **knobs: Any,
    ) -> None:
        super().__init__(num_envs, scenario, max_episode_steps, None, None, **knobs)  # type: ignore[arg-type]
        self.render_mode = render_mode
        if render_mode is not None:
            self._renderer = MixtureRenderer(render_mode, self.dynamics, num_envs)  # type: ignore[assignment]


class MixtureOfSemanticsEnv(_Shell):
    r"""Mixture of Semantics: a region of interest as an image, the rest as text, over one fading channel.

    ## Description

    A user points at an object in an image. The object's pixels (region of interest, ROI) are sent by learned joint
    source-channel coding; of the rest (RONI) a caption is sent, by a text codec; the region's mask is sent as bits. At
    the receiver an inpainting diffusion model paints the rest from the text around the region. CBR * 3HW complex
    symbols are given; at every step, with a new image, prompt, signal-to-noise ratio and fade, the agent sets the share
    alpha of them that the text gets. Too few and the text cannot be read, so that something else is painted; beyond a
    threshold more of them only take quality from the region.

    The caption is that of the image without the phrase that names the region's kind of thing, which arrives as pixels.
    The codec sends a whole number of symbols a token, 5 to 32: below that no text is sent, and the caption arrives
    empty. What the mask takes is ceil(bits / rate) symbols at the rate of the channel's capacity (of a stated outage
    over fading); where that alone exceeds the budget neither mask nor region are sent, and where the fade falls short
    of the rate both are lost. A lost region counts as grey, and the whole image is painted from the text.

    Steps are independent of each other, so that a discount of gamma = 0 loses nothing.

    ## Action Space

    `Box(-1, 1, (n,))`, one entry a control, -1 the least and 1 the most; beyond that they are clipped:

    | control | from -1 to 1 |
    |---|---|
    | `alpha` | share of the symbols for the text, over `alpha_range` |
    | `cbr` (by option) | CBR, from the least of `cbr_range` to the step's `cbr` |
    | `margin` (by option) | by how many pixels the region is grown, one of the image set's margins |

    ## Observation Space

    A `Dict` of 1-D arrays, float32 in [-1, 1]; M is the number of the image set's margins, 1 in the bundled ones:

    | key | length | meaning |
    |---|---|---|
    | `snr` | 1 | mean SNR in dB of a complex symbol, -10 to 30 dB scaled to [-1, 1] |
    | `cbr` | 1 | log CBR, 0.01 to 0.2 scaled to [-1, 1]; where the agent chooses, the most |
    | `roi_size` | M | log of the region's share of the image, 0.001 to 1 scaled to [-1, 1] |
    | `mask_bits` | M | log(1 + bits of the mask), 0 to 2^14 - 1 bits scaled to [-1, 1] |
    | `caption_tokens` | 1 | log of the caption's tokens, end token included, 1 to 64 scaled to [-1, 1] |
    | `importance` | 1 | the region's share of the saliency, [0, 1] scaled to [-1, 1] |

    Importance is the mean spectral residual saliency inside the region over the sum of the means inside and outside.

    ## Rewards

    r = w PSNR-ROI / `psnr_ref_db` + (1 - w) CLIP-RONI / ceiling - `undecodable_penalty` * u, with u the share of the
    noise seeds for which more than a stated share of the tokens is wrong (1 if no text is sent); with `cbr` among the
    controls less `cbr_weight` * CBR / the largest CBR. PSNR-ROI is measured over the object's pixels, grey where
    nothing arrived; CLIP-RONI is the cosine between CLIP's embeddings of the painted rest and of the caption sent.

    `info` carries every term: `psnr_roi_db`, `clip_roni`, `token_error`, `undecodable` (u), `quality` (r without the
    price of CBR), `alpha`, `cbr`, `margin_px`, `total_symbols`, `text_symbols`, `mask_symbols`, `roi_symbols`,
    `symbols_per_token`, `mask_received`.

    `info["privileged"]` is for references alone: `channel` (1, complex; in a step's info the fade that this step used,
    at reset the first one to be used), `effective_snr_db` (SNR + 10 log10 |h|^2), `snr_db`, `cbr`, `image_ids`,
    `image_index`.

    ## Starting State

    All of an episode's items, SNRs, bandwidth ratios and fades are drawn at reset from the environment's own generator;
    their number and order depend on `episode_length` alone. `reset(options={"image_ids": [...]})` sets the items, one a
    step; everything is drawn all the same.

    ## Episode End

    Truncation after `episode_length` steps; there is no termination.

    ## Arguments

    Every field of :class:`~noma_semcom_env.mixture_scenario.MixtureScenario` is a keyword, and `scenario=` takes a
    whole one, in which the keywords then replace fields.

    | argument | default | meaning |
    |---|---|---|
    | `images` | `"street-policy"` | bundled mixture table or path of one |
    | `image_ids` | None | items to draw from; None is all of the set |
    | `alpha_range` | `(0.0, 1.0)` | alpha that the least and the largest action mean |
    | `cbr_range` | `(0.02, 0.12)` | least and most CBR that the agent can choose |
    | `accounting` | `"counted"` | `"counted"` takes the mask from the budget, `"paper"` gives it for nothing |
    | `recovery` | `"table"` | `"table"`, `"live"` or a recovery |
    | `models` | `"street_mixture"` | models of `recovery="live"`, by name or as a mapping that swaps parts |
    | `psnr_weight` | 0.5 | w |
    | `psnr_ref_db` | 40.0 | PSNR-ROI that is worth 1 |
    | `clip_ceiling` | None | CLIP-RONI that is worth 1; None is the policy items' for tables by the bundled models |
    | `undecodable_penalty` | 0.1 | subtracted where the text cannot be decoded |
    | `episode_length` | 20 | steps of an episode |
    | `channel` | `"rayleigh"` | `"rayleigh"` (block fading) or `"awgn"` |
    | `snr_range_db` | `(0.0, 20.0)` | mean SNR in dB, drawn uniformly at each step |
    | `snr_values_db` | None | SNRs to draw from instead |
    | `cbr_values` | `(0.032, 0.048, 0.064, 0.08, 0.096)` | CBRs to draw from at each step |
    | `controls` | `("alpha",)` | what the action sets: `"alpha"`, by option `"cbr"` and `"margin"` |
    | `cbr_weight` | 0.04 | price of the largest CBR, with `"cbr"` among the controls |
    | `mask_outage` | 0.1 | probability that a fade falls short of the mask's rate |

    ## Vectorized environment

    `gymnasium.make_vec(id, num_envs=64, vectorization_mode="vector_entry_point")` steps all environments in one go, see
    :class:`MixtureOfSemanticsVectorEnv`. Sub-environment i of seed s equals this one seeded s + i.

    ## Version History

    * v0: initial version.

    Args:
        scenario: Where to start; None is the default scenario.
        render_mode: ``"rgb_array"``, ``"human"``, ``"ansi"``, or None for none.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or a field has the wrong type.
        ValueError: If a field is out of range, or the image set is missing or damaged.
    """

    scenario_class = MixtureScenario
    dynamics_class = MixtureDynamics


class MixtureOfSemanticsVectorEnv(_VectorShell):
    """Many :class:`MixtureOfSemanticsEnv` stepped in one go.

    Seeds, autoreset (``NEXT_STEP``) and infos are those of :class:`~noma_semcom_env.envs.vector.NomaSemComVectorEnv`.

    Args:
        num_envs: n, at least 1.
        scenario: Where to start; None is the default scenario.
        max_episode_steps: Truncates earlier than ``episode_length`` does; None leaves it.
        render_mode: ``"rgb_array"``, ``"human"`` (the first environment), ``"ansi"``, or None for none.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or an argument has the wrong type.
        ValueError: If an argument is out of range, or the image set is missing or damaged.
    """

    scenario_class = MixtureScenario
    dynamics_class = MixtureDynamics


class MixtureOfSemanticsNomaEnv(_Shell):
    r"""Mixtures of Semantics of several users over uplink NOMA.

    ## Description

    K users send mixtures (see :class:`MixtureOfSemanticsEnv`) at once over the same band to an access point with N
    antennas, which decodes them one after the other. At every step each user has a new image and prompt, and the
    channel moves; the agent sets each user's bandwidth ratio and the text's share alpha of it. Region and text are
    analogue symbols, one a channel use, which take (n_text + n_roi) / B whatever the channel; the mask is bits, which
    take bits / R_k. Receive beams and decoding order of least latency are solved exactly. The symbols see SINR_k and
    arrive as over AWGN of that SNR, known to the user: more symbols mean better images and a longer transmission.

    ## Action Space

    `Box(-1, 1, (2K,))`, user by user: alpha over `alpha_range`, then CBR over `cbr_range`; beyond [-1, 1] they are
    clipped.

    ## Observation Space

    A `Dict` of 1-D arrays, float32 in [-1, 1], user by user; M is the number of the image set's margins:

    | key | length | meaning |
    |---|---|---|
    | `snr` | K | p_k \|\|h_k\|\|^2 / sigma^2 in dB, -10 to 70 dB scaled to [-1, 1] |
    | `direction` | K * 2N | h_k / \|\|h_k\|\|, N real parts, N imaginary parts; the first antenna's phase is 0 |
    | `last_order` | K | position in the last decoding order, -1 decoded first, 1 last; 0 before the first step |
    | `bandwidth` | 1 | log B, 1 kHz to 1 GHz scaled to [-1, 1] |
    | `roi_size` | K * M | as in :class:`MixtureOfSemanticsEnv`, likewise the rest |
    | `mask_bits` | K * M | |
    | `caption_tokens` | K | |
    | `importance` | K | |

    ## Rewards

    r = lambda mean_k q_k - (1 - lambda) min(tau, tau_max) / tau_ref, less `violation_penalty` if tau > tau_max, with
    q_k = w PSNR-ROI / `psnr_ref_db` + (1 - w) CLIP-RONI / ceiling - `undecodable_penalty` * u of user k and tau the
    largest of the users' times.

    `info` carries every term: `psnr_roi_db`, `clip_roni`, `token_error`, `undecodable`, `quality` (q), `alpha`, `cbr`,
    `text_symbols`, `roi_symbols`, `symbols_per_token`, `mask_bits`, `sinr_db`, `rate_bps` (K each), `decoding_order`
    (K, first decoded first), `latency_s`, `violations`.

    `info["privileged"]` is for references alone: `channel` (K, N complex; in a step's info the one that this step's
    transmission used, at reset the first one to be used), `power_w` (K), `noise_power_w`, `image_ids` (K),
    `image_index` (K), `distances_m` (K).

    ## Starting State

    Users are dropped uniformly over an annulus; items and channels of a whole episode are drawn at reset from the
    environment's own generator, a number of variates that depends on K, N, `episode_length` and the channel model
    alone. `reset(options={"image_ids": [...]})` sets the items, one id a user for the whole episode.

    ## Episode End

    Truncation after `episode_length` steps; there is no termination.

    ## Arguments

    Every field of :class:`~noma_semcom_env.mixture_scenario.MixtureNomaScenario` is a keyword, and `scenario=` takes a
    whole one, in which the keywords then replace fields.

    | argument | default | meaning |
    |---|---|---|
    | `images` | `"street-policy"` | bundled mixture table or path of one |
    | `image_ids` | None | items to draw from; None is all of the set |
    | `alpha_range` | `(0.0, 1.0)` | alpha that the least and the largest action mean |
    | `cbr_range` | `(0.02, 0.12)` | least and most CBR |
    | `accounting` | `"counted"` | `"counted"` sends the masks' bits, `"paper"` gives them for nothing |
    | `recovery` | `"table"` | `"table"`, `"live"` or a recovery |
    | `models` | `"street_mixture"` | models of `recovery="live"`, by name or as a mapping that swaps parts |
    | `psnr_weight` | 0.5 | w |
    | `psnr_ref_db` | 40.0 | PSNR-ROI that is worth 1 |
    | `clip_ceiling` | None | CLIP-RONI that is worth 1; None is the policy items' for tables by the bundled models |
    | `undecodable_penalty` | 0.1 | subtracted where the text cannot be decoded |
    | `episode_length` | 20 | steps of an episode |
    | `num_users` | 3 | K |
    | `num_antennas` | 2 | N |
    | `transmit_power_dbm` | 23.0 | transmit power in dBm, one number or K |
    | `bandwidth_hz` | 1e6 | bandwidth in Hz |
    | `noise_psd_dbm_hz` | -174.0 | noise power spectral density in dBm/Hz |
    | `noise_figure_db` | 0.0 | noise figure of the receiver in dB |
    | `min_distance_m` | 50.0 | inner radius of the annulus in m |
    | `max_distance_m` | 200.0 | outer radius of the annulus in m |
    | `distances_m` | None | K distances in m that replace the drop |
    | `path_loss_intercept_db` | 128.1 | path loss at 1 km in dB |
    | `path_loss_slope_db` | 37.6 | path loss a decade of distance in dB |
    | `fading` | `"rayleigh"` | `"rayleigh"`, `"rician"` or a channel model |
    | `rician_factor_db` | 9.0 | power of the line of sight over the scattered power in dB |
    | `doppler_hz` | None | maximum Doppler shift in Hz of Gauss-Markov fading; None is block fading |
    | `step_period_s` | 0.01 | time between steps in s, for the Doppler |
    | `antenna_spacing_wavelengths` | 0.5 | spacing of the uniform linear array |
    | `transmission` | `"optimal"` | `"optimal"` or `"exhaustive"` |
    | `sic_residual` | 0.0 | share of a decoded user's power that stays as interference |
    | `quality_weight` | 0.5 | lambda |
    | `latency_ref_s` | 0.1 | tau_ref in s |
    | `max_latency_s` | None | tau_max in s; None is 20 tau_ref |
    | `violation_penalty` | 1.0 | subtracted if tau > tau_max |

    ## Vectorized environment

    `gymnasium.make_vec(id, num_envs=64, vectorization_mode="vector_entry_point")` steps all environments in one go,
    with autoreset `NEXT_STEP`; sub-environment i of seed s equals this one seeded s + i.

    ## Version History

    * v0: initial version.

    Args:
        scenario: Where to start; None is the default scenario.
        render_mode: ``"rgb_array"``, ``"human"``, ``"ansi"``, or None for none.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or a field has the wrong type.
        ValueError: If a field is out of range, or the image set is missing or damaged.
    """

    scenario_class = MixtureNomaScenario
    dynamics_class = MixtureNomaDynamics


class MixtureOfSemanticsNomaVectorEnv(_VectorShell):
    """Many :class:`MixtureOfSemanticsNomaEnv` stepped in one go.

    Seeds, autoreset (``NEXT_STEP``) and infos are those of :class:`~noma_semcom_env.envs.vector.NomaSemComVectorEnv`.

    Args:
        num_envs: n, at least 1.
        scenario: Where to start; None is the default scenario.
        max_episode_steps: Truncates earlier than ``episode_length`` does; None leaves it.
        render_mode: ``"rgb_array"``, ``"human"`` (the first environment), ``"ansi"``, or None for none.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or an argument has the wrong type.
        ValueError: If an argument is out of range, or the image set is missing or damaged.
    """

    scenario_class = MixtureNomaScenario
    dynamics_class = MixtureNomaDynamics
