"""A series comes back from its file as it was; what is not one is refused in one line."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.exchange import netcdf
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.series import (
    NEVER_OBSERVED,
    NO_DATA,
    PROVENANCE,
    S1_BANDS,
    UNCERTAINTY,
    Acquisitions,
    Georeference,
    Provenance,
    TileSeries,
)
from tests.messages import assert_names, refused


@pytest.fixture(scope="module")
def series() -> TileSeries:
    return simulate_tile(SimulationConfig(height=16, width=20, days=60, field_hectares=0.8), 1, 0)


def changed(content: bytes, change) -> bytes:
    """The file after a change to its dataset, written as a user's own tools would."""
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf", mask_and_scale=False, decode_times=False) as cube:
        return bytes(change(cube.load()).to_netcdf(None, engine="h5netcdf"))


def assert_same(one: TileSeries, other: TileSeries) -> None:
    for a, b in [(one.optical, other.optical), *((one.radar[track], other.radar[track]) for track in one.radar)]:
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.dates, b.dates)
        assert a.bands == b.bands
    assert one.radar.keys() == other.radar.keys()
    assert one.georeference == other.georeference
    assert (one.clouds is None) == (other.clouds is None)
    if one.clouds is not None:
        np.testing.assert_array_equal(one.clouds, other.clouds)


@pytest.mark.parametrize("name", ["a.nc", "s3://bucket/a.nc", "https://example.org/a#mode=zarr,s3"])
def test_a_series_comes_back_to_the_bit(series, name):
    """Whatever it is called: the library would follow an address."""
    found = netcdf.decode(netcdf.encode(series), name)
    assert_same(series, found)
    assert found.tile_id == series.tile_id
    assert len(found.radar) == 2


def test_what_a_result_says_of_its_pixels_comes_back(series):
    random = np.random.default_rng(0)
    never = (random.random(series.size) < 0.1).astype(np.uint8)
    said = random.integers(0, 2000, series.optical.values.shape, dtype=np.int16)
    found = netcdf.decode(netcdf.encode(replace(series, layers={NEVER_OBSERVED: never, UNCERTAINTY: said})), "a.nc")
    np.testing.assert_array_equal(found.layers[NEVER_OBSERVED], never)
    np.testing.assert_array_equal(found.layers[UNCERTAINTY], said)
    # It takes memory as the bands do, and counts among what an upload may hold.
    bands_alone = SeriesLimits(values=series.optical.values.size)
    assert netcdf.decode(netcdf.encode(replace(series, radar={})), "a.nc", bands_alone).layers == {}
    with refused("a.nc", bands_alone.values):
        netcdf.decode(netcdf.encode(replace(series, radar={}, layers={UNCERTAINTY: said})), "a.nc", bands_alone)


def test_a_provenance_that_is_missing_or_no_code_is_unknown(series):
    codes = np.zeros((len(series.optical), *series.size), np.uint8)
    codes[:, :, 3] = 2

    def spoil(cube):
        values = cube["provenance"].astype(np.float32)
        values[0, :2] = [[np.nan], [9]]
        return cube.assign(provenance=values)

    found = netcdf.decode(changed(netcdf.encode(replace(series, layers={PROVENANCE: codes})), spoil), "a.nc")
    assert (found.layers[PROVENANCE][0, :2] == Provenance.UNKNOWN).all()
    np.testing.assert_array_equal(found.layers[PROVENANCE][0, 2:], codes[0, 2:])


def test_radar_of_other_years_is_left_out_with_a_remark(series):
    track = next(iter(series.radar))
    radar = series.radar[track]
    moved = replace(radar, dates=radar.dates - np.timedelta64(3000, "D"))
    found = netcdf.decode(netcdf.encode(replace(series, radar={**series.radar, track: moved})), "a.nc")
    assert found.radar.keys() == series.radar.keys() - {track}
    assert_names(found.remarks[-1], "a.nc", track, str(moved.dates[0]), str(series.optical.dates[0]))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(2, 9), width=st.integers(2, 9), radar=st.booleans())
def test_any_plausible_values_come_back(seed, height, width, radar):
    random = np.random.default_rng(seed)

    def drawn(bands: tuple[str, ...], count: int, least: int, most: int) -> Acquisitions:
        values = random.integers(least, most, (count, len(bands), height, width)).astype(np.int16)
        values[random.random(values.shape) < 0.1] = NO_DATA
        dates = np.datetime64("2019-01-01") + np.cumsum(random.integers(1, 9, count))
        return Acquisitions(values, dates, bands)

    place = Georeference("EPSG:32631", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_900_020.0))
    clouds = random.choice(np.array([0, 1, 2, 3, 255], np.uint8), (3, height, width))
    tracks = {"S1A": drawn(S1_BANDS, 2, -5000, -50)} if radar else {}
    series = TileSeries("t", drawn(("B02", "B8A"), 3, -999, 20000), clouds, tracks, place)
    assert_same(series, netcdf.decode(netcdf.encode(series), "a.nc"))


def test_reflectance_as_floating_point_is_taken_to_its_ten_thousandth(series):
    bands = list(series.optical.bands)

    def as_float(cube: xarray.Dataset) -> xarray.Dataset:
        for band in bands:
            values = cube[band].values.astype(np.float32) / 10_000
            cube[band] = (cube[band].dims, np.where(cube[band].values == NO_DATA, np.nan, values))
        return cube

    found = netcdf.decode(changed(netcdf.encode(series), as_float), "a.nc")
    np.testing.assert_array_equal(found.optical.values, series.optical.values)


def test_a_gap_mask_counts_as_thick_cloud_and_no_mask_as_none(series):
    bare = replace(series, clouds=None)
    gaps = series.missing()
    found = netcdf.decode(netcdf.encode(bare, gaps), "a.nc")
    np.testing.assert_array_equal(found.clouds, gaps.astype(np.uint8))
    assert netcdf.decode(netcdf.encode(bare), "a.nc").clouds is None


def renamed(**names):
    return lambda cube: cube.rename(names)


def with_value(band, value):
    def change(cube):
        values = cube[band].values.astype(np.float64)
        values[0, 0, 0] = value
        cube[band] = (cube[band].dims, values)
        return cube

    return change


def with_factor(band, factor):
    def change(cube):
        cube[band].attrs["scale_factor"] = factor
        return cube

    return change


def with_dates(dates):
    def change(cube):
        days = np.asarray(cube["time"].values).copy()
        days[: len(dates)] = dates
        cube["time"] = ("time", days, cube["time"].attrs)
        return cube

    return change


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda cube: cube[["clouds"]], ["B02, B03, B04"]),
        (renamed(time="t"), ["dimension time"]),
        (renamed(y="lat"), ["dimension y"]),
        (lambda cube: cube.transpose("y", "x", ...), ["B02", "y, x, time", "time, y, x"]),
        (with_dates([5000, 4999]), ["time", "day"]),
        (with_dates([17000, 17000]), ["time", "day"]),
        (lambda cube: cube.assign_coords(time=np.arange(cube.sizes["time"])), ["time", "dates"]),
        (with_value("B03", 7.0), ["B03", "±3.2"]),
        (with_factor("B04", np.nan), ["B04", "scale_factor"]),
        (lambda cube: cube.drop_vars("S1A_VH"), ["S1A", "S1A_VH"]),
        (lambda cube: cube.assign(clouds=cube["clouds"] + 9), ["clouds", 3, 255]),
        (lambda cube: cube.drop_vars("spatial_ref"), ["CRS"]),
        (lambda cube: cube.assign_coords(x=cube.x.values + 4 * (np.arange(20) == 5)), ["coordinates of x"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(series, change, facts):
    with refused(*facts) as refusal:
        netcdf.decode(changed(netcdf.encode(series), change), "upload.nc")
    assert str(refusal.value).startswith("upload.nc: ")


def test_what_is_too_large_is_refused_before_it_is_read():
    """A file of a few kB that would unpack to 800 GB."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, size in (("time", 1000), ("y", 20_000), ("x", 20_000)):
            scale = file.create_dataset(name, (size,), "i4")
            scale.make_scale(name)
        band = file.create_dataset("B02", (1000, 20_000, 20_000), "i2", chunks=(1, 256, 256), compression="gzip")
        for axis, name in enumerate(("time", "y", "x")):
            band.dims[axis].attach_scale(file[name])
    assert len(buffer.getvalue()) < 1_000_000
    with refused("upload.nc", "20000×20000", 4096):
        netcdf.decode(buffer.getvalue(), "upload.nc")
    limits = SeriesLimits(side=30_000, values=10**9)
    with refused("upload.nc", 1000000000):
        netcdf.decode(buffer.getvalue(), "upload.nc", limits)


@settings(max_examples=40)
@given(data=st.data())
def test_damage_is_a_refusal_or_goes_unnoticed_but_nothing_else(series, data):
    content = bytearray(netcdf.encode(replace(series, radar={})))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else bytes(content)
    with suppress(UserError):
        netcdf.decode(cut, "upload.nc")


def referring(series: TileSeries, other: Path, kind: str) -> bytes:
    """The series as a file whose band B02 lies in another file."""
    buffer = io.BytesIO(netcdf.encode(series))
    with h5py.File(buffer, "r+") as file:
        shape, dtype = file["B02"].shape, file["B02"].dtype
        del file["B02"]
        if kind == "link":
            file["B02"] = h5py.ExternalLink(str(other), "/values")
        elif kind == "values":
            size = dtype.itemsize * int(np.prod(shape))
            file.create_dataset("B02", shape, dtype, external=[(str(other), 0, size)])
        else:
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(other), "values", shape)
            file.create_virtual_dataset("B02", layout)
        if kind != "link":
            for axis, name in enumerate(("time", "y", "x")):
                file["B02"].dims[axis].attach_scale(file[name])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["values", "virtual", "link"])
def test_a_file_cannot_have_another_one_read(series, tmp_path, kind):
    """Else whoever uploads it would get what a path on the server holds."""
    other = tmp_path / "secret"
    if kind == "values":
        other.write_bytes(np.full(series.optical.values[:, 0].shape, 1234, "<i2").tobytes())
    else:
        with h5py.File(other, "w") as file:
            file["values"] = np.full(series.optical.values[:, 0].shape, 1234, "<i2")
    with refused("upload.nc") as refusal:
        netcdf.decode(referring(series, other, kind), "upload.nc")
    assert str(tmp_path) not in str(refusal.value)
