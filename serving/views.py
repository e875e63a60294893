"""The viewer's data, stored next to a result as raw arrays, so that one image or one pixel's time series can be read by
itself.

`views.json` describes the arrays. `cloudy.bin` and `clear.bin` are int16 [T, C, H, W], `gaps.bin` is uint8 [T, H, W],
and `pixels.bin` is int16 [H, W, 2, T, C] with cloudy before clear. All are little-endian.
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
from restore_dit.pictures.composites import (
    COMPOSITES,
    INDICES,
    Stretch,
    encode_colours,
    encode_png,
    natural_composite,
    robust_stretch,
    vegetation_index,
)
from restore_dit.series import NO_DATA, REFLECTANCE_SCALE, TileSeries

Kind = Literal["clear", "cloudy", "gaps"]

INDEX = "index"
"""Key of the vegetation index among the composites."""

INDEX_COLOURS, INDEX_RANGE = colormaps["RdYlGn"], (-0.1, 0.9)
GAP_COLOUR = (232, 176, 74, 255)


def write_views(folder: Location, cloudy: TileSeries, clear: TileSeries, gap_mask: NDArray[np.bool_]) -> None:
    """Writes the viewer's data. Both series have the same bands and dates; `gap_mask` is [T, H, W]."""
    bands, before, after = clear.optical.bands, cloudy.optical.values, clear.optical.values
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
        "gaps": [round(float(share), 4) for share in gap_mask.mean(axis=(1, 2))],
    }
    pixels = np.stack([before, after], axis=1).transpose(3, 4, 1, 0, 2)
    for name, array in (("cloudy", before), ("clear", after), ("pixels", pixels)):
        write_bytes_atomically(folder.join(f"{name}.bin"), np.ascontiguousarray(array, "<i2").tobytes())
    write_bytes_atomically(folder.join("gaps.bin"), np.ascontiguousarray(gap_mask, np.uint8).tobytes())
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
        """Content of `views.json`: dates, bands, size, composites, share of gap pixels per date."""
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
            gaps = self._read("gaps.bin", index * height * width, height * width, "u1").reshape(height, width)
            image = np.zeros((height, width, 4), np.uint8)
            image[gaps != 0] = GAP_COLOUR
            return encode_png(image)
        if composite not in described["composites"]:
            raise KeyError(composite)
        count = len(described["bands"]) * height * width
        stored = self._read(f"{of}.bin", 2 * index * count, 2 * count, "<i2").reshape(-1, height, width)
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
        """Time series of a pixel: reflectance by band, None where there are no data, and whether each date is a gap.

        Raises:
            KeyError: no such pixel.
        """
        described = self.description
        height, width = described["size"]
        if not (0 <= row < height and 0 <= column < width):
            raise KeyError((row, column))
        dates, bands = len(described["dates"]), described["bands"]
        count = 2 * dates * len(bands)
        stored = self._read("pixels.bin", 2 * (row * width + column) * count, 2 * count, "<i2")
        both = stored.reshape(2, dates, len(bands))
        gaps = read_ranges(
            self.folder.join("gaps.bin"), [(date * height * width + row * width + column, 1) for date in range(dates)]
        )
        answer: dict[str, Any] = {"gap": [bytes(flag) != b"\0" for flag in gaps]}
        for name, values in zip(("cloudy", "clear"), both, strict=True):
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

    def _read(self, name: str, offset: int, length: int, dtype: str) -> NDArray[Any]:
        (content,) = read_ranges(self.folder.join(name), [(offset, length)])
        return np.frombuffer(content, dtype)
