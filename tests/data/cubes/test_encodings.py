"""One cube, compressed and typed in every way that NetCDF has, reads alike on ingest and by the endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import read_cube
from restore_dit.data.exchange import netcdf
from restore_dit.errors import UserError
from restore_dit.series import NO_DATA, TileSeries

DATES, HEIGHT, WIDTH = 2, 12, 14


def images() -> NDArray[np.int64]:
    """Reflectance × 10000 that says date, row and column, with nothing in the last column."""
    date, row, column = np.indices((DATES, HEIGHT, WIDTH))
    values = 1000 + 500 * date + 20 * row + column
    values[:, :, -1] = NO_DATA
    return values


def write(
    file: Path, stored: NDArray[Any], classes: NDArray[Any] | None = None, form: str = "NETCDF4", fill: Any = None,
    classes_unsigned: bool = False, compression: str | None = None, **attributes: Any,
) -> None:  # fmt: skip
    """`stored` as B02, `classes` as SCL. Without `fill` a variable has no fill value at all."""
    with netCDF4.Dataset(file, "w", format=form) as dataset:
        for name, size in (("time", DATES), ("y", HEIGHT), ("x", WIDTH)):
            dataset.createDimension(name, size)
        dataset.crs = "EPSG:32631"
        time = dataset.createVariable("time", "i4", ("time",))
        time.units = "days since 2020-05-01"
        time[:] = [0, 5]
        for name, centres in (("y", 5599995 - 10.0 * np.arange(HEIGHT)), ("x", 500005 + 10.0 * np.arange(WIDTH))):
            dataset.createVariable(name, "f8", (name,))[:] = centres
        for name, values in (("B02", stored), ("SCL", classes)):
            if values is None:
                continue
            of_bands = name == "B02"
            kept = (fill if fill is not None else False) if of_bands else (np.int8(-1) if classes_unsigned else False)
            variable = dataset.createVariable(
                name, values.dtype, ("time", "y", "x"), fill_value=kept, compression=compression
            )
            variable.set_auto_maskandscale(False)
            if of_bands:
                variable.setncatts(attributes)
            elif classes_unsigned:
                variable._Unsigned = "true"
            variable[...] = values


def read(file: Path, scale: float = 1e-4, **product: Any) -> TileSeries:
    optical = {"files": "*", "bands": {"B02": "B02"}, "scale": scale, **product}
    classes = {0: "no_data", 4: "clear", 200: "thick_cloud"}
    return read_cube(file, CubeMapping.model_validate({"source": "test", "optical": [optical], "classes": classes}))


@pytest.mark.parametrize("compression", [None, "zlib", "zstd", "blosc_lz", "blosc_zstd", "szip", "bzip2"])
def test_every_compression_reads_alike_here_and_at_the_endpoint(tmp_path: Path, compression: str | None) -> None:
    file = tmp_path / "s2.nc"
    write(file, images().astype(np.int16), fill=NO_DATA, compression=compression)
    np.testing.assert_array_equal(read(file).optical.values[:, 0], images())
    np.testing.assert_array_equal(netcdf.decode(file.read_bytes(), "s2.nc").optical.values[:, 0], images())


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF4_CLASSIC", "NETCDF4"])
def test_unsigned_shorts_and_bytes(tmp_path: Path, form: str) -> None:
    """Reflectance 4.0 is beyond what a series holds: it is no data, never −2.5536 nor clear ground of 3.2767."""
    stored = images()
    stored[:, :, -1] = 65535
    stored[:, 0, 0], stored[:, 0, 1] = 40000, 32767
    classes = np.full(stored.shape, 4)
    classes[:, 1, 0], classes[:, :, -1] = 200, 255
    write(
        tmp_path / "s2.nc", stored.astype(np.uint16).view(np.int16), classes.astype(np.uint8).view(np.int8), form,
        np.int16(-1), classes_unsigned=True, _Unsigned="true",
    )  # fmt: skip
    series = read(tmp_path / "s2.nc", classification="SCL")
    expected = images()
    expected[:, 0, 0], expected[:, 0, 1] = NO_DATA, 32767
    np.testing.assert_array_equal(series.optical.values[:, 0], expected)
    assert series.missing()[:, 0, 0].all()
    assert series.clouds is not None
    assert series.clouds[0, 1].tolist() == [1, *[0] * (WIDTH - 2), 255]
    assert [remark for remark in series.remarks if " 2 values" in remark and "3.2767" in remark]


def test_unsigned_shorts_at_the_endpoint(tmp_path: Path) -> None:
    stored = images()
    stored[:, :, -1] = 65535
    write(tmp_path / "a.nc", stored.astype(np.uint16).view(np.int16), fill=np.int16(-1), _Unsigned="true")
    np.testing.assert_array_equal(netcdf.decode((tmp_path / "a.nc").read_bytes(), "a").optical.values[:, 0], images())
    stored[0, 0, 0] = 40000
    write(tmp_path / "b.nc", stored.astype(np.uint16).view(np.int16), fill=np.int16(-1), _Unsigned="true")
    with pytest.raises(UserError, match=r"B02 .*4, beyond ±3\.2"):
        netcdf.decode((tmp_path / "b.nc").read_bytes(), "b")


@pytest.mark.parametrize(
    ("fill", "attributes"),
    [
        (netCDF4.default_fillvals["f4"], {}),
        (1e20, {"missing_value": np.float64(1e20)}),
        (-3.4028234663852886e38, {"missing_value": np.float64(-3.4028234663852886e38)}),
        (-1.0, {"valid_min": np.float32(0)}),
        (1e20, {"valid_range": np.float32([0, 2])}),
        (-9999.0, {"missing_value": "-9999"}),
    ],
)
def test_float_reflectance_without_data_by_every_attribute(
    tmp_path: Path, fill: float, attributes: dict[str, Any]
) -> None:
    known = images() != NO_DATA
    write(tmp_path / "s2.nc", np.where(known, images() / 10000, fill).astype(np.float32), **attributes)
    series = read(tmp_path / "s2.nc", scale=1)
    np.testing.assert_array_equal(series.optical.values[:, 0], images())
    assert series.remarks == ()
    endpoint = netcdf.decode((tmp_path / "s2.nc").read_bytes(), "s2.nc")
    np.testing.assert_array_equal(endpoint.optical.values[:, 0], images())


@pytest.mark.parametrize("unsaid", [65535, 1e20, -1e20, 3.3, 1e308])
def test_a_fill_value_that_nobody_declares_is_no_clear_ground(tmp_path: Path, unsaid: float) -> None:
    stored = np.where(images() == NO_DATA, unsaid, images() / 10000)
    write(tmp_path / "s2.nc", stored)
    series = read(tmp_path / "s2.nc", scale=1)
    np.testing.assert_array_equal(series.optical.values[:, 0], images())
    assert any(str(DATES * HEIGHT) in remark for remark in series.remarks)


def test_an_undeclared_fill_value_is_not_drawn_into_its_neighbours(tmp_path: Path) -> None:
    """A band of 20 m beside one of 10 m is interpolated: 6.55 and 0.1 must not become 1.7."""
    for name, spacing, size in (("fine", 10.0, 8), ("coarse", 20.0, 4)):
        with netCDF4.Dataset(tmp_path / f"{name}.nc", "w") as dataset:
            dataset.crs = "EPSG:32631"
            for axis, length, centres in (
                ("time", 1, [0]),
                ("y", size, 5600000 - spacing * (np.arange(size) + 0.5)),
                ("x", size, 500000 + spacing * (np.arange(size) + 0.5)),
            ):
                dataset.createDimension(axis, length)
                dataset.createVariable(axis, "f8", (axis,))[:] = centres
            dataset["time"].units = "days since 2020-05-01"
            values = np.full((1, size, size), 1000, np.uint16)
            values[0, 0, 0] = 65534 if name == "coarse" else 1000
            dataset.createVariable(name, "u2", ("time", "y", "x"), fill_value=0)[:] = values
    optical = [
        {"files": f"{name}.nc", "bands": {band: name}, "scale": 1e-4}
        for name, band in (("fine", "B02"), ("coarse", "B11"))
    ]
    values = read_cube(tmp_path, CubeMapping.model_validate({"source": "t", "optical": optical})).optical.values[0, 1]
    assert values[:2, :2].tolist() == [[NO_DATA] * 2] * 2
    assert set(np.unique(values[2:])) == {1000}
    assert set(np.unique(values[:, 2:])) == {1000}


def test_reflectance_without_its_scale_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s2.nc", np.where(images() == NO_DATA, 0, images()).astype(np.float64))
    with pytest.raises(UserError, match=r"s2\.nc.*3\.28.*scale"):
        read(tmp_path / "s2.nc", scale=1)


@pytest.mark.parametrize("form", [2, 3])
def test_chunks_that_were_never_written_are_no_data(tmp_path: Path, form: Literal[2, 3]) -> None:
    """As zarr itself leaves them: -9999 stands in the array's metadata, not among its attributes."""
    group = zarr.create_group(tmp_path / "s2.zarr", zarr_format=form, attributes={"crs": "EPSG:32631"})

    def create(name: str, values: NDArray[Any], dims: tuple[str, ...], **options: Any) -> zarr.Array:
        names = {"dimension_names": dims} if form == 3 else {"attributes": {"_ARRAY_DIMENSIONS": dims}}
        return group.create_array(name, shape=values.shape, dtype=values.dtype, **names, **options)

    time = create("time", np.arange(2), ("time",))
    time[:] = [0, 5]
    time.attrs["units"] = "days since 2020-05-01"
    create("y", np.zeros(HEIGHT), ("y",))[:] = 5599995 - 10.0 * np.arange(HEIGHT)
    create("x", np.zeros(WIDTH), ("x",))[:] = 500005 + 10.0 * np.arange(WIDTH)
    stored = images().astype(np.int16)
    band = create("B02", stored, ("time", "y", "x"), chunks=(1, 12, 7), fill_value=-9999)
    band[0] = stored[0]
    band[1, :, :7] = stored[1, :, :7]
    stored[1, :, 7:] = NO_DATA
    np.testing.assert_array_equal(read(tmp_path / "s2.zarr", no_data=[-32768]).optical.values[:, 0], stored)
