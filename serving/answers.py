"""What a caller gets of a reconstructed series: one file, or the files of a folder with a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.storage import Location, write_bytes_atomically
from restore_dit.errors import UserError
from restore_dit.reconstruction.rasters import geotiffs
from restore_dit.series import Acquisitions, TileSeries
from serving.views import write_views

MEDIA_TYPES = {
    "netcdf": "application/x-netcdf",
    "geotiff": "application/zip",
    "json": "application/json",
    ".nc": "application/x-netcdf",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".json": "application/json",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class Answer:
    """A series without gaps, where it had them, and what made it."""

    cloudy: TileSeries
    clear: TileSeries
    gap_mask: NDArray[np.bool_]
    attributes: dict[str, str]

    def only(self, dates: tuple[str, ...]) -> Answer:
        """Of some dates; all where none is named.

        Raises:
            UserError: no date, or one that the series lacks.
        """
        if not dates:
            return self
        there = {str(date): index for index, date in enumerate(self.clear.optical.dates.astype("datetime64[D]"))}
        for date in dates:
            if date not in there:
                raise UserError(f"dates: the series has no image of {date[:20]}")
        chosen = np.array(sorted({there[date] for date in dates}))
        cloudy, clear = (
            TileSeries(one.tile_id, one.optical.select(chosen), georeference=one.georeference)
            for one in (self.cloudy, self.clear)
        )
        return Answer(cloudy, clear, self.gap_mask[chosen], self.attributes)

    def as_one(self, kind: str) -> bytes:
        """A NetCDF file, or a ZIP archive of Cloud-optimised GeoTIFFs."""
        if kind == "geotiff":
            return geotiff_archive.encode(dict(geotiffs(self.clear, self.gap_mask, self.attributes)))
        return netcdf.encode(netcdf.without_radar(self.clear), self.gap_mask, self.attributes)

    def files(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """The files of a folder: what `kind` says, and `series.json`, which describes them."""
        names = []
        if kind == "netcdf":
            names.append(f"{self.clear.tile_id}.nc")
            yield names[0], self.as_one("netcdf")
        else:
            for name, content in geotiffs(self.clear, self.gap_mask, self.attributes):
                names.append(name)
                yield name, content
        yield "series.json", json.dumps(self.described() | {"files": names}).encode()

    def described(self) -> dict:
        """The series in a few words."""
        optical = self.clear.optical
        place = self.clear.georeference
        return {
            "tile": self.clear.tile_id,
            "dates": [str(date) for date in optical.dates.astype("datetime64[D]")],
            "bands": list(optical.bands),
            "size": list(self.clear.size),
            "crs": None if place is None else place.crs,
            "reconstructed": [round(float(share), 4) for share in self.gap_mask.mean(axis=(1, 2))],
            "attributes": self.attributes,
        }

    def write(self, folder: Location, kind: str, *, views: bool) -> tuple[str, ...]:
        """Writes the files, and what the viewer shows; the files' names."""
        names = []
        for name, content in self.files(kind):
            write_bytes_atomically(folder.join(name), content)
            names.append(name)
        if views:
            bands, order = self.clear.optical.bands, self.cloudy.optical.bands
            values = self.cloudy.optical.values[:, [order.index(band) for band in bands]]
            cloudy = TileSeries(self.cloudy.tile_id, Acquisitions(values, self.clear.optical.dates, bands))
            write_views(folder.join("views"), cloudy, self.clear, self.gap_mask)
        return tuple(names)
