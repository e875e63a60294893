"""Conversion of stored integers to the network's scale and back: the content of a model's `normalisation.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore_dit.data.storage import read_bytes
from restore_dit.errors import UserError
from restore_dit.series import DECIBEL_SCALE, RADAR_CHANNELS, REFLECTANCE_SCALE

OPTICAL_CEILING = 8000
"""Stored optical integer (reflectance × 10000) that corresponds to 1 on the published scale."""

BRIGHT_CEILING = 20_000
"""Stored optical integer at which the pixel network's input is clipped: reflectance 2, above that of fresh snow, which
reaches 1.2 on slopes that face the sun."""

RADAR_CLAMP = 2.0
"""Standard deviations at which normalised radar is clipped."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation in dB of each radar channel. The optical scale is fixed (Shu et al. 2025), but for
    the stored integer `optical_ceiling` at which values are clipped."""

    radar_channels: tuple[str, ...] = ()
    radar_mean: tuple[float, ...] = ()
    radar_std: tuple[float, ...] = ()
    optical_ceiling: int = OPTICAL_CEILING

    @property
    def brightest(self) -> float:
        """The largest value on the published scale, where 1 is a reflectance of 0.8."""
        return self.optical_ceiling / OPTICAL_CEILING

    def to_json(self) -> bytes:
        """The content of `normalisation.json`."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def from_json(cls, content: bytes, origin: str) -> Normalisation:
        """The normalisation written by `to_json`; `origin` names the file in errors.

        Raises:
            UserError: the content is not a normalisation.
        """
        try:
            fields = json.loads(content)
            ceiling = int(fields.get("optical_ceiling", OPTICAL_CEILING))  # older models were all clipped there
            if not OPTICAL_CEILING <= ceiling <= BRIGHT_CEILING:
                raise ValueError(f"optical_ceiling={ceiling}, not {OPTICAL_CEILING} to {BRIGHT_CEILING}")
            return cls(
                tuple(map(str, fields["radar_channels"])),
                tuple(map(float, fields["radar_mean"])),
                tuple(map(float, fields["radar_std"])),
                ceiling,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{origin}: not a normalisation file ({error!r}); copy the model again") from None

    def radar(self, stored: Tensor, bands: tuple[str, ...], missing: Tensor) -> Tensor:
        """Network input [..., K, H, W] in [-1, 1] from stored dB × 100 [..., bands, H, W]; `missing` pixels [..., 1, H,
        W] become 0, the mean."""
        decibel = stored.float().div_(DECIBEL_SCALE)
        channels = [_channel(decibel, bands, name) for name in self.radar_channels]
        mean = decibel.new_tensor(self.radar_mean)[:, None, None]
        std = decibel.new_tensor(self.radar_std)[:, None, None]
        scaled = torch.stack(channels, dim=-3).sub_(mean).div_(std)
        return scaled.clamp_(-RADAR_CLAMP, RADAR_CLAMP).div_(RADAR_CLAMP).masked_fill_(missing, 0.0)


def read_published_normalisation(path: str, channels: tuple[str, ...]) -> Normalisation:
    """The given channels of PASTIS-R's `NORM_S1A_patch.json` ({"Fold_1": {"mean": [3], "std": [3]}, …}; VV, VH and
    VV-VH), averaged over folds.

    Raises:
        UserError: the file does not exist or has other content.
    """
    try:
        folds = list(json.loads(read_bytes(path)).values())
        places = [RADAR_CHANNELS.index(channel) for channel in channels]
        mean = np.mean([fold["mean"] for fold in folds], axis=0)[places]
        std = np.mean([fold["std"] for fold in folds], axis=0)[places]
        return Normalisation(channels, tuple(map(float, mean)), tuple(map(float, std)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(
            f'{path}: not a normalisation file of PASTIS-R ({{"Fold_1": {{"mean": […], "std": […]}}}})'
        ) from None


def _channel(decibel: Tensor, bands: tuple[str, ...], name: str) -> Tensor:
    if name == "VV-VH":
        return decibel[..., bands.index("VV"), :, :] - decibel[..., bands.index("VH"), :, :]
    return decibel[..., bands.index(name), :, :]


def optical_to_network(stored: Tensor, ceiling: int = OPTICAL_CEILING) -> Tensor:
    """Stored reflectance × 10000 on the network's scale: clamp(0, ceiling) / 8000, then 2·x - 1. With the published
    ceiling this is [-1, 1]."""
    return stored.float().clamp_(0, ceiling).mul_(2 / OPTICAL_CEILING).sub_(1)


def stored_to_published_scale(stored: NDArray[np.int16], ceiling: int = OPTICAL_CEILING) -> NDArray[np.float32]:
    """Stored reflectance × 10000 on the scale of the published figures, clamp(stored, 0, ceiling) / 8000; the published
    ceiling is 8000."""
    return np.clip(stored, 0, ceiling).astype(np.float32) / np.float32(OPTICAL_CEILING)


def published_scale_to_reflectance(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Published scale, where 1 is a reflectance of 0.8, to surface reflectance."""
    return values * np.float32(OPTICAL_CEILING / REFLECTANCE_SCALE)


def published_scale_to_stored(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Published scale, where 1 is a reflectance of 0.8, to stored reflectance × 10000, at most `BRIGHT_CEILING`."""
    return np.rint(np.clip(values * np.float32(OPTICAL_CEILING), 0, BRIGHT_CEILING)).astype(np.int16)
