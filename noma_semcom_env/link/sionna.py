"""3GPP channels by Sionna (TR 38.901): urban macro and micro cells, in the narrowband form that the link takes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from noma_semcom_env.link.sic import ComplexArray, FloatArray, checked

CELLS: Final = ("UMa", "UMi")
_MAST_M: Final = {"UMa": 25.0, "UMi": 10.0}
_HAND_M: Final = 1.5


@dataclass(frozen=True)
class SionnaChannel:
    """Outdoor users around one access point, at random angles, walking straight on; path loss and shadowing included.

    The access point has a uniform linear array of isotropic antennas, each user one. A trajectory is one drop: clusters
    and shadowing stay, phases turn by the Doppler shift of each ray. The channel of a narrow band is the sum over
    paths, which holds where the bandwidth is well below the coherence bandwidth. Sionna's own generators are seeded
    from the given one for each trajectory.

    Attributes:
        cell: ``"UMa"`` (mast of 25 m) or ``"UMi"`` (10 m).
        carrier_hz: Carrier frequency, 0.5 to 100 GHz.
        step_period_s: Time between two steps in s.
        speed_m_s: Of every user, in a random direction.
        antenna_spacing_wavelengths: Distance between neighbouring antennas in wavelengths.

    Raises:
        ValueError: if an attribute is out of range.
    """

    cell: str = "UMa"
    carrier_hz: float = 3.5e9
    step_period_s: float = 0.01
    speed_m_s: float = 1.0
    antenna_spacing_wavelengths: float = 0.5

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell is {self.cell!r}; one of {CELLS} is needed")
        if not 0.5e9 <= self.carrier_hz <= 100e9:
            raise ValueError(f"carrier_hz is {self.carrier_hz}; a number in [5e+08, 1e+11] Hz is needed")
        checked("step_period_s", self.step_period_s, "(0, inf)")
        checked("speed_m_s", self.speed_m_s, "[0, inf)")
        checked("antenna_spacing_wavelengths", self.antenna_spacing_wavelengths, "(0, inf)")

    def sample(self, rng: np.random.Generator, distances_m: FloatArray, num_antennas: int, steps: int) -> ComplexArray:
        """Draw a trajectory, see :meth:`~noma_semcom_env.link.channel.ChannelModel.sample`: a seed, 2 K uniforms.

        Distances are horizontal; below 10 m TR 38.901 does not hold.

        Raises:
            ModuleNotFoundError: if Sionna is not installed.
        """
        phy, models, torch = _import_sionna()
        users = len(distances_m)
        seed = int(rng.integers(2**63))
        position, heading = 2.0 * np.pi * rng.random((2, users))

        def placed(radius: FloatArray | float, angle: FloatArray, height: float) -> Any:
            xyz = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(users, height)], axis=-1)
            return torch.from_numpy(xyz[None])

        def array(columns: int) -> Any:
            return models.PanelArray(
                num_rows_per_panel=1,
                num_cols_per_panel=columns,
                polarization="single",
                polarization_type="V",
                antenna_pattern="omni",
                carrier_frequency=self.carrier_hz,
                element_horizontal_spacing=self.antenna_spacing_wavelengths,
                precision="double",
                device="cpu",
            )

        phy.config.seed = seed
        model = getattr(models, self.cell)(
            self.carrier_hz, "low", array(1), array(num_antennas), "uplink", precision="double", device="cpu"
        )
        model.set_topology(
            ut_loc=placed(distances_m, position, _HAND_M),
            bs_loc=torch.tensor([[[0.0, 0.0, _MAST_M[self.cell]]]], dtype=torch.float64),
            ut_orientations=torch.zeros((1, users, 3), dtype=torch.float64),
            bs_orientations=torch.zeros((1, 1, 3), dtype=torch.float64),
            ut_velocities=placed(self.speed_m_s, heading, 0.0),
            in_state=torch.zeros((1, users), dtype=torch.bool),
        )
        # (1, 1, N, K, 1, paths, steps)
        paths, _ = model(steps, 1.0 / self.step_period_s)
        channel: ComplexArray = paths[0, 0, :, :, 0].sum(dim=-2).permute(2, 1, 0).cpu().numpy().astype(np.complex128)
        return channel


def _import_sionna() -> tuple[Any, Any, Any]:
    try:
        return (
            importlib.import_module("sionna.phy"),
            importlib.import_module("sionna.phy.channel.tr38901"),
            importlib.import_module("torch"),
        )
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "3GPP channels need Sionna without its ray tracer: pip install 'noma-semcom-env[sionna]'"
        ) from missing
