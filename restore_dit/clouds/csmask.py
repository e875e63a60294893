"""Clouds by the networks of the package ukis-csmask, which carries them as ONNX files in its wheel.

They are U-Nets with an EfficientNet-B4 encoder, which the German Aerospace Center trained on CloudSEN12+ and SPARCS:
Wieland, Fichtner and Martinis (2022), UKIS-CSMASK: a Python package for multi-sensor cloud and cloud shadow
segmentation, ISPRS Archives XLIII-B3: 217–222.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from restore_dit.clouds.network.inputs import network_input, resample, resample_logits, without_data
from restore_dit.clouds.rule import rule_identity, rule_masks
from restore_dit.config.clouds import CloudNetworkConfig, RuleConfig
from restore_dit.data.crs import coordinate_system, pixel_sides
from restore_dit.data.store.masks import MaskOrigin
from restore_dit.errors import UserError
from restore_dit.series import CLEAR, CLOUD_NO_DATA, SHADOW, THICK_CLOUD, Georeference, TileSeries

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_INPUTS_VERSION = 1
"""Incremented with every change of what the networks are given that affects masks."""

Level = Literal["l1c", "l2a"]
"""Reflectance at the top of the atmosphere, or at the surface. There are networks for either."""

_VISIBLE, _NEAR_INFRARED, _SHORTWAVE = ("B02", "B03", "B04"), ("B08", "B8A"), ("B11", "B12")

_CLOUD = 1
"""Index of cloud among the networks' classes. The others are background, which includes snow, and shadow."""

_PIXEL = 30.0
"""Pixel size in metres that the networks were trained on."""

_FEWEST_PIXELS = 16
"""Shorter side of a frame as the networks see it: below, pixels become smaller than `_PIXEL`. Both were chosen on
simulated tiles (`docs/clouds.md`)."""

_UNSAID_PIXEL = 10.0
"""Pixel size in metres of a tile without a georeference."""

_OVERLAP = 0.2
"""Share by which the windows of a large frame overlap, as in the package itself."""


class CsmaskDetector:
    """Clouds by the package ukis-csmask, all of them thick; shadows and snow by the rule. The package's own shadows are
    not used: on tiles of 640 m, hardly any is one (`docs/results.md`)."""

    def __init__(self, config: RuleConfig) -> None:
        """
        Args:
            config: settings of the rule.

        Raises:
            UserError: the package is not installed.
        """
        self.config = config
        self.version = csmask_version()

    @property
    def origin(self) -> MaskOrigin:
        """Versions of the package and the rule, and the settings of the rule."""
        return MaskOrigin(method="csmask", by=f"{self.version}, rule {rule_identity(self.config)}")

    def require(self, bands: tuple[str, ...], size: tuple[int, int], georeference: Georeference | None) -> None:
        """Raises `UserError` if the bands do not suffice, or the coordinate reference system is unknown."""
        csmask_bands(bands)  # the rule needs no others
        if georeference is not None:
            coordinate_system(georeference)

    def detect(self, tiles: Iterable[TileSeries]) -> Iterator[NDArray[np.uint8]]:
        """Masks uint8 [T, H, W] of each tile, in order: 0 clear, 1 cloud, 3 shadow, 255 no data. The networks are
        loaded once in a process.

        Raises:
            UserError: the package is not installed in this process, or a tile lacks bands.
        """
        for series in tiles:
            cloud, unknown = csmask_clouds(series)
            by_rule = rule_masks(series, self.config)
            masks = np.where(by_rule == SHADOW, by_rule, np.uint8(CLEAR))
            masks[cloud] = THICK_CLOUD
            masks[unknown | (by_rule == CLOUD_NO_DATA)] = CLOUD_NO_DATA
            yield masks


@dataclass(frozen=True)
class _Network:
    """A network for windows of `side`×`side` pixels, and the `mean` and `deviation` [C, 1, 1] that normalise them."""

    session: InferenceSession
    side: int
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def probabilities(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of each class [3, H, W] for a frame of reflectance [C, H, W] of any size. The package's functions
        cut the frame into windows, beyond its edges continued by reflection, as often as it takes, and blend them."""
        from ukis_csmask.utils import tile_array, untile_array

        height, width = frame.shape[1:]
        normalised = ((frame - self.mean) / self.deviation).transpose(1, 2, 0)
        windows = tile_array(normalised, self.side, self.side, overlap=_OVERLAP).transpose(0, 3, 1, 2)
        name = self.session.get_inputs()[0].name
        logits = [self.session.run(None, {name: np.ascontiguousarray(window[None])})[0] for window in windows]
        classes = softmax(np.concatenate(logits), axis=1).transpose(0, 2, 3, 1)
        blended = untile_array(classes, (height, width, classes.shape[-1]), overlap=_OVERLAP, smooth_blending=True)
        found: NDArray[np.float32] = blended.transpose(2, 0, 1)
        return found


def csmask_clouds(series: TileSeries, level: Level = "l2a") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where cloud is the most probable class [T, H, W], and where a band that the network reads has no data [T, H, W].

    Raises:
        UserError: the package is not installed, or the tile lacks bands that the networks need.
    """
    optical = series.optical
    config = CloudNetworkConfig(bands=csmask_bands(optical.bands))
    network = _network(len(config.bands), level)
    unknown = without_data(optical.values, optical.bands, config)
    cloud = np.zeros_like(unknown)
    grid = network_grid(series.size, series.georeference)
    for frame in np.flatnonzero(~unknown.all(axis=(1, 2))):
        reflectance = network_input(optical.values[frame : frame + 1], optical.bands, config)
        found = network.probabilities(resample(reflectance, grid)[0].numpy())
        on_tile = resample_logits(torch.from_numpy(found)[None], series.size)[0]
        cloud[frame] = (on_tile.argmax(dim=0) == _CLOUD).numpy()
    return cloud, unknown


def csmask_bands(bands: tuple[str, ...]) -> tuple[str, ...]:
    """The bands that a network reads of a tile with these, in the network's order: blue, green, red and near infrared
    and, if the tile has both, the two of the short-wave infrared.

    Raises:
        UserError: the tile lacks one of the first four.
    """
    near = next((band for band in _NEAR_INFRARED if band in bands), None)
    lacking = [band for band in _VISIBLE if band not in bands] + ([] if near else [" or ".join(_NEAR_INFRARED)])
    if near is None or lacking:
        raise UserError(
            f"csmask reads {', '.join(_VISIBLE)} and {' or '.join(_NEAR_INFRARED)}; the tile lacks "
            f"{', '.join(lacking)} (it has {', '.join(bands)}): use another method, such as rule"
        )
    return (*_VISIBLE, near, *(_SHORTWAVE if set(_SHORTWAVE) <= set(bands) else ()))


def csmask_version() -> str:
    """The version of the package, and that of what its networks are given.

    Raises:
        UserError: the package, or what runs its networks, is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("ukis_csmask", "onnxruntime")):
        raise UserError("method csmask needs the package ukis-csmask: pip install 'restore-dit[csmask]'")
    return f"ukis-csmask {importlib.metadata.version('ukis-csmask')}, inputs version {_INPUTS_VERSION}"


def network_grid(size: tuple[int, int], georeference: Georeference | None) -> tuple[int, int]:
    """(H, W) of a tile as the networks see it: pixels of 30 m, or smaller ones if there would be too few, but never
    smaller ones than the tile has."""
    sides = (_UNSAID_PIXEL, _UNSAID_PIXEL) if georeference is None else pixel_sides(georeference, size)
    extent = [length * side for length, side in zip(size, sides, strict=True)]
    pixel = min(_PIXEL, min(extent) / _FEWEST_PIXELS)
    tall, wide = (min(length, round(metres / pixel)) for length, metres in zip(size, extent, strict=True))
    return tall, wide


@cache
def _network(bands: int, level: Level) -> _Network:
    """The network for 4 or 6 bands. It is loaded once in a process, which takes a second or two.

    Raises:
        UserError: the package is not installed.
    """
    csmask_version()
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for each other sleep: workers share their node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    files = importlib.resources.files("ukis_csmask")
    described = json.loads(files.joinpath(f"model_{bands}b_{level}.json").read_text())["data"]
    with importlib.resources.as_file(files.joinpath(f"model_{bands}b_{level}.onnx")) as path:
        session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mean, deviation = np.array(described["dataset_statistics"]["img"], np.float32)[:, :, None, None]
    return _Network(session, described["target_size"][0], mean, deviation)
