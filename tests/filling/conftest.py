"""A series, and the same as a dataset that a user may have in memory."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import xarray

from restore_dit.series import NO_DATA, TileSeries


@pytest.fixture(scope="module")
def series(small_store) -> TileSeries:
    return small_store.load(small_store.tile_ids[0]).series()


@pytest.fixture(scope="module")
def dataset(series: TileSeries) -> xarray.Dataset:
    """Reflectance, classes, radar, dates and place, as xarray users write them."""
    optical, place = series.optical, series.georeference
    assert place is not None
    left, top = place.transform[2], place.transform[5]
    values = np.where(optical.values == NO_DATA, np.nan, optical.values / 10_000).astype(np.float32)
    variables = {band: (("time", "y", "x"), values[:, index]) for index, band in enumerate(optical.bands)}
    variables["clouds"] = (("time", "y", "x"), series.clouds)
    coordinates = {
        "time": optical.dates.astype("datetime64[ns]"),
        "y": top - 10 * (np.arange(24) + 0.5),
        "x": left + 10 * (np.arange(24) + 0.5),
        "spatial_ref": ((), 0, pyproj.CRS.from_user_input(place.crs).to_cf()),
    }
    for track, radar in series.radar.items():
        coordinates[f"{track}_time"] = radar.dates.astype("datetime64[ns]")
        for index, band in enumerate(radar.bands):
            variables[f"{track}_{band}"] = ((f"{track}_time", "y", "x"), radar.values[:, index] / 100)
    return xarray.Dataset(variables, coordinates, {"title": "mine"})
