"""The response to a reconstruction: a single file, or a folder of files with an index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from restore_dit.config import ModelConfig
from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.series_dataset import without_radar
from restore_dit.data.storage import Location, write_bytes_atomically
from restore_dit.errors import TooLarge, UserError
from restore_dit.indices import INDICES, index_layers
from restore_dit.pictures.composites import encode_colours, natural_composite, robust_stretch
from restore_dit.reconstruction.dates import dates_wanted
from restore_dit.reconstruction.rasters import geotiffs
from restore_dit.series import (
    NEVER_OBSERVED,
    NO_DATA,
    REFLECTANCE_SCALE,
    SAMPLES,
    UNCERTAINTY,
    Acquisitions,
    TileSeries,
)
from serving.failures import hiding_operator_errors
from serving.records import Output, RequestOptions
from serving.views import write_views

_NORMAL_80 = 1.2816
"""Standard deviations within which 80 % of a normal distribution lie."""

MEDIA_TYPES = {
    "netcdf": "application/x-netcdf",
    "geotiff": "application/zip",
    "json": "application/json",
    ".nc": "application/x-netcdf",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".json": "application/json",
    ".zip": "application/zip",
}


def outputs_of(network: ModelConfig, bands: Sequence[str]) -> tuple[Output, ...]:
    """Outputs that a model can produce for these bands."""
    index: tuple[Output, ...] = ("ndvi",) if set(INDICES["NDVI"]) <= set(bands) else ()
    sure: tuple[Output, ...] = ("uncertainty",) if network.predicts_uncertainty else ()
    return ("reflectance", *index, "previews", *sure)


def require_answerable(
    series: TileSeries, name: str, network: ModelConfig, wanted: RequestOptions
) -> NDArray[np.datetime64] | None:
    """Checks that the series, called `name`, has the bands that the model and the requested outputs need, and that the
    requested dates can be filled; returns them.

    Raises:
        UserError: it has not, or they cannot.
    """
    if wanted.samples and not {"reflectance", "uncertainty"} & set(wanted.outputs):
        raise UserError(f"samples={wanted.samples}: come with the reflectance, so add reflectance to outputs")
    try:
        bands = network.bands_of(series.optical.bands)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    for output in wanted.outputs:
        if output not in outputs_of(network, bands):
            raise UserError(f"{name}: {output} cannot be computed from {', '.join(bands)}")
    return dates_wanted(series.optical.dates, wanted.dates, wanted.every)


def require_room(name: str, samples: int, dates: int, series: TileSeries, most: int) -> None:
    """Checks that an ensemble is not larger than the `most` values of a series that are accepted.

    Raises:
        TooLarge: it is.
    """
    values = samples * dates * series.optical.values[0].size
    if values > most:
        raise TooLarge(f"{name}: samples={samples} make {values} values; at most {most} are allowed: ask for fewer")


@dataclass(frozen=True)
class Answer:
    """A reconstructed series, its gap mask [T, H, W], its provenance, the outputs that were requested, and the indices
    with their uncertainty, if both were."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]
    attributes: dict[str, str]
    outputs: tuple[Output, ...] = ("reflectance",)
    indices: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def as_one(self, kind: str) -> bytes:
        """A NetCDF file, which cannot hold previews, or a ZIP archive of Cloud-Optimized GeoTIFFs and previews."""
        if kind == "geotiff":
            return geotiff_archive.encode(dict([*self._geotiffs(), *self._previews()]))
        return netcdf.encode(self._wanted_bands(), self.gap_mask, self.attributes, self._indices())

    def files(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file of a result folder: images of this `kind`, previews, and `series.json`, which
        describes them."""
        names = []
        images = [(f"{self.clear.tile_id}.nc", self.as_one("netcdf"))] if kind == "netcdf" else self._geotiffs()
        for part in (images, self._previews()):
            for name, content in part:
                names.append(name)
                yield name, content
        yield "series.json", json.dumps(self.described() | {"files": names}).encode()

    def described(self) -> dict:
        """Metadata of the series, as written to `series.json`."""
        optical = self.clear.optical
        place = self.clear.georeference
        return {
            "tile": self.clear.tile_id,
            "dates": [str(date) for date in optical.dates.astype("datetime64[D]")],
            "bands": list(optical.bands),
            "size": list(self.clear.size),
            "crs": None if place is None else place.crs,
            "reconstructed": [round(float(share), 4) for share in self.gap_mask.mean(axis=(1, 2))],
            "never_observed": int(self.clear.layers[NEVER_OBSERVED].sum()),
            "attributes": self.attributes,
        }

    def write(self, folder: Location, kind: str, *, views: bool) -> tuple[str, ...]:
        """Writes the files and, with `views`, the viewer's data; returns the names of the files."""
        names = []
        for name, content in self.files(kind):
            with hiding_operator_errors():
                write_bytes_atomically(folder.join(name), content)
            names.append(name)
        if views:
            bands, order = self.clear.optical.bands, self.cloudy.optical.bands
            values = self.cloudy.optical.values[:, [order.index(band) for band in bands]]
            cloudy = TileSeries(self.cloudy.tile_id, Acquisitions(values, self.clear.optical.dates, bands))
            with hiding_operator_errors():
                interval = float(self.attributes.get("INTERVAL_80", _NORMAL_80))
                write_views(folder.join("views"), cloudy, self.clear, interval)
        return tuple(names)

    def _geotiffs(self) -> Iterator[tuple[str, bytes]]:
        return geotiffs(self._wanted_bands(), self.gap_mask, self.attributes, self._indices())

    def _previews(self) -> Iterator[tuple[str, bytes]]:
        """`<tile>_<date>.png` in natural colours, or the closest composite, with one stretch for all dates."""
        if "previews" not in self.outputs:
            return
        bands = self.clear.optical.bands
        images = natural_composite(bands).pick(self._reflectance(), bands)
        stretch = robust_stretch(images, np.ones(images.shape[:3], bool))
        for date, image in zip(self.clear.optical.dates.astype("datetime64[D]"), images, strict=True):
            yield f"{self.clear.tile_id}_{date}.png", encode_colours(stretch.apply(image))

    def _wanted_bands(self) -> TileSeries:
        """The reflectance with its samples, and the uncertainty, if requested."""
        series = without_radar(self.clear)
        if "uncertainty" in self.outputs:
            return series
        bare = "reflectance" not in self.outputs
        left_out = (UNCERTAINTY, SAMPLES) if bare else (UNCERTAINTY,)
        series = replace(series, layers={name: one for name, one in series.layers.items() if name not in left_out})
        if not bare:
            return series
        optical = series.optical
        return replace(series, optical=Acquisitions(optical.values[:, :0], optical.dates, ()))

    def _indices(self) -> dict[str, NDArray[np.float64]]:
        if "ndvi" not in self.outputs:
            return {}
        return self.indices or index_layers(replace(self.clear, layers={}), ("ndvi",))

    def _reflectance(self) -> NDArray[np.floating]:
        """[T, C, H, W], NaN where there are no data."""
        values = self.clear.optical.values
        return np.where(values == NO_DATA, np.nan, values / REFLECTANCE_SCALE)
