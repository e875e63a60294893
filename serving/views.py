"""The viewer's data, stored next to a result as raw arrays, so that one image or one pixel's time series can be read by
itself.

`views.json` describes the arrays. `cloudy.bin`, `clear.bin` and, for networks that estimate it, `uncertainty.bin` are
int16 [T, C, H, W]; `pixels.bin` is int16 [H, W, K, T, C], the same K arrays by pixel; `provenance.bin` is uint8
[T, H, W]. All are little-endian.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from restore_dit.data.storage import Location, exists, read_bytes, write_bytes_atomically
from restore_dit.data.storage.ranges import read_ranges
from restore_dit.indices import INDICES, vegetation_index
from restore_dit.pictures.composites import (
    COMPOSITES,
    Stretch,
    encode_colours,
    encode_png,
    natural_composite,
    robust_stretch,
)
from restore_dit.series import NO_DATA, PROVENANCE, REFLECTANCE_SCALE, UNCERTAINTY, Provenance, TileSeries

Kind = Literal["clear", "cloudy", "gaps", "uncertainty"]

INDEX = "index"
"""Key of the vegetation index among the composites."""

INDEX_COLOURS, INDEX_RANGE = colormaps["RdYlGn"], (-0.1, 0.9)
UNCERTAINTY_COLOURS, UNCERTAINTY_MOST = colormaps["magma"], 0.06
"""Colours of the mean standard deviation of the bands, from 0 to this reflectance."""

PROVENANCE_COLOURS = {
    Provenance.FILLED: (232, 176, 74, 255),
    Provenance.EXTRAPOLATED: (196, 78, 82, 255),
    Provenance.UNKNOWN: (60, 60, 70, 255),
}


def write_views(folder: Location, cloudy: TileSeries, clear: TileSeries, interval: float) -> None:
    """Writes the viewer's data. Both series have the same bands and dates; `clear` has the layer `PROVENANCE`.
    interval: half width of the interval that holds 80 % of the errors, in standard deviations."""
    bands, before, after = clear.optical.bands, cloudy.optical.values, clear.optical.values
    provenance = clear.layers[PROVENANCE]
    composites, stretches = {}, {}
    for composite in [one for one in COMPOSITES if one.available(bands)] or [natural_composite(bands)]:
        key = composite.name.replace(" ", "_").replace("-", "_")
        composites[key] = composite.name
        images = composite.pick(after / REFLECTANCE_SCALE, bands)
        stretch = robust_stretch(images, np.ones(images.shape[:3], bool))
        stretches[key] = {
            "bands": composite.bands, "low": stretch.low.tolist(), "high": stretch.high.tolist()
        }  # fmt: skip
    index = next((name for name, pair in INDICES.items() if set(pair) <= set(bands)), None)
    if index is not None:
        composites[INDEX] = index
    described = {
        "tile": clear.tile_id,
        "dates": [str(date) for date in clear.optical.dates.astype("datetime64[D]")],
        "bands": list(bands),
        "size": list(clear.size),
        "composites": composites,
        "stretches": stretches,
        "index": index,
        "gaps": [round(float(share), 4) for share in (provenance != Provenance.OBSERVED).mean(axis=(1, 2))],
        "interval": interval if UNCERTAINTY in clear.layers else None,
        "remarks": clear.remarks,
    }
    arrays: dict[str, NDArray[np.integer]] = {"cloudy": before, "clear": after}
    if UNCERTAINTY in clear.layers:
        arrays["uncertainty"] = clear.layers[UNCERTAINTY]
    arrays["pixels"] = np.stack(list(arrays.values()), axis=1).transpose(3, 4, 1, 0, 2)
    for name, array in arrays.items():
        write_bytes_atomically(folder.join(f"{name}.bin"), np.ascontiguousarray(array, "<i2").tobytes())
    write_bytes_atomically(folder.join("provenance.bin"), np.ascontiguousarray(provenance, np.uint8).tobytes())
    write_bytes_atomically(folder.join("views.json"), json.dumps(described).encode())


@dataclass(frozen=True)
class Views:
    """Reads the viewer's data from a folder."""

    folder: Location

    @property
    def there(self) -> bool:
        """Whether the folder has such data."""
        return exists(self.folder.join("views.json"))

    @cached_property
    def description(self) -> dict[str, Any]:
        """Content of `views.json`: dates, bands, size, composites, gap share per date, remarks on the input."""
        return json.loads(read_bytes(self.folder.join("views.json")))

    def image(self, index: int, of: Kind, composite: str) -> bytes:
        """The image of a date as PNG; pixels without data are transparent.

        Raises:
            KeyError: no such date or composite.
        """
        described = self.description
        height, width = described["size"]
        if not 0 <= index < len(described["dates"]):
            raise KeyError(index)
        if of == "gaps":
            codes = self._read("provenance.bin", index * height * width, height * width, "u1").reshape(height, width)
            image = np.zeros((height, width, 4), np.uint8)
            for code, colour in PROVENANCE_COLOURS.items():
                image[codes == code] = colour
            return encode_png(image)
        if of == "uncertainty":
            if described["interval"] is None:
                raise KeyError(of)
            deviation = self._stored(of, index).mean(axis=0) / REFLECTANCE_SCALE
            coloured = UNCERTAINTY_COLOURS(np.clip(deviation / UNCERTAINTY_MOST, 0, 1))
            coloured[..., 3] = deviation > 0
            return encode_png((255 * coloured).round().astype(np.uint8))
        if composite not in described["composites"]:
            raise KeyError(composite)
        stored = self._stored(of, index)
        values = np.where(stored == NO_DATA, np.nan, stored / REFLECTANCE_SCALE)[None]
        if composite == INDEX:
            found = vegetation_index(values, described["bands"])
            assert found is not None
            low, high = INDEX_RANGE
            coloured = INDEX_COLOURS(np.clip((found[1][0] - low) / (high - low), 0, 1))
            coloured[..., 3] = np.isfinite(found[1][0])
            return encode_png((255 * coloured).round().astype(np.uint8))
        kept = described["stretches"][composite]
        chosen = values[0, [described["bands"].index(band) for band in kept["bands"]]]
        stretch = Stretch(np.array(kept["low"]), np.array(kept["high"]))
        return encode_colours(stretch.apply(chosen.transpose(1, 2, 0)))

    def pixel(self, row: int, column: int) -> dict[str, Any]:
        """Time series of a pixel: reflectance by band, None where there are no data, whether each date is a gap, what
        each value rests on, and, where it is estimated, the standard deviation by band.

        Raises:
            KeyError: no such pixel.
        """
        described = self.description
        height, width = described["size"]
        if not (0 <= row < height and 0 <= column < width):
            raise KeyError((row, column))
        dates, bands = len(described["dates"]), described["bands"]
        kinds = 2 + (described["interval"] is not None)
        count = kinds * dates * len(bands)
        stored = self._read("pixels.bin", 2 * (row * width + column) * count, 2 * count, "<i2")
        arrays = stored.reshape(kinds, dates, len(bands))
        places = [(date * height * width + row * width + column, 1) for date in range(dates)]
        codes = [bytes(code)[0] for code in read_ranges(self.folder.join("provenance.bin"), places)]
        answer: dict[str, Any] = {"gap": [code != Provenance.OBSERVED for code in codes]}
        answer["provenance"] = [Provenance(code).name.lower() for code in codes]
        if kinds == 3:
            deviations = (arrays[2].T / REFLECTANCE_SCALE).round(4).tolist()
            answer["uncertainty"] = dict(zip(bands, deviations, strict=True))
        for name, values in zip(("cloudy", "clear"), arrays[:2], strict=True):
            known = np.where(values == NO_DATA, np.nan, values / REFLECTANCE_SCALE)
            series = dict(zip(bands, known.T, strict=True))
            found = vegetation_index(known.T[None, :, None, :], bands)
            if found is not None:
                series[found[0]] = found[1][0, 0]
            answer[name] = {
                band: [None if np.isnan(value) else round(float(value), 4) for value in one]
                for band, one in series.items()
            }
        return answer

    def _stored(self, of: Kind, index: int) -> NDArray[np.int16]:
        """An array's values [C, H, W] on one date."""
        (height, width), bands = self.description["size"], self.description["bands"]
        count = len(bands) * height * width
        return self._read(f"{of}.bin", 2 * index * count, 2 * count, "<i2").reshape(-1, height, width)

    def _read(self, name: str, offset: int, length: int, dtype: str) -> NDArray[Any]:
        (content,) = read_ranges(self.folder.join(name), [(offset, length)])
        return np.frombuffer(content, dtype)
