"""Cubes on object storage read as those beside us; what was made of them is scanned and drawn there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray
from rasterio.transform import from_origin

from restore_dit.cli import main
from restore_dit.config.cube_mapping import CubeMapping
from restore_dit.data.cubes.site_series import plan_cubes, read_cube
from restore_dit.data.runner import run
from restore_dit.series import NO_DATA
from tests.messages import assert_names

pytestmark = pytest.mark.s3

MAPPING = CubeMapping.model_validate(
    {
        "source": "test",
        "optical": [
            {"files": "s2*", "bands": {"B04": "red"}, "scale": 1e-4},
            {"files": "*.tif", "bands": {"B08": "1"}, "scale": 1e-4, "date": r"_(\d{8})"},
        ],
        "radar": [{"files": "s1*", "track": "S1A", "bands": {"VV": "VV", "VH": "VH"}}],
    }
)


def write_site(folder: Path) -> None:
    image = np.arange(100, 160).reshape(3, 4, 5)
    dims = ("time", "y", "x")
    times = np.array(["2019-01-01", "2019-01-06", "2019-01-11"], "datetime64[ns]")
    place: dict[str, Any] = {"y": 5600035 - 10.0 * np.arange(4), "x": 500005 + 10.0 * np.arange(5), "time": times}
    folder.mkdir()
    about = {"crs": "EPSG:32631"}
    xarray.Dataset({"red": (dims, image)}, place, about).to_zarr(folder / "s2.zarr", zarr_format=2)
    radar = xarray.Dataset({"VV": (dims, image / -10), "VH": (dims, image / -8)}, place, about)
    radar.to_netcdf(folder / "s1.nc", engine="h5netcdf")
    # Its mask lies beside it.
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(
        folder / "nir_20190106.tif", "w", driver="GTiff", dtype="uint16", count=1, height=4, width=5,
        crs="EPSG:32631", transform=from_origin(500000, 5600040, 10, 10),
    ) as raster:  # fmt: skip
        raster.write(image[:1].astype(np.uint16))
        raster.write_mask(image[0] != 107)
    assert (folder / "nir_20190106.tif.msk").exists()


def test_a_site_on_object_storage(tmp_path: Path, s3: Any, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_site(tmp_path / "site")
    for file in (tmp_path / "site").rglob("*"):
        if file.is_file():
            s3.client().upload_file(str(file), bucket, f"cubes/{file.relative_to(tmp_path)}")
    here, there = read_cube(tmp_path / "site", MAPPING), read_cube(f"s3://{bucket}/cubes/site", MAPPING)
    assert here.optical.bands == ("B04", "B08")
    np.testing.assert_array_equal(here.optical.values, there.optical.values)
    assert there.optical.values[1, 1, 1].tolist() == [105, 106, NO_DATA, 108, 109]
    np.testing.assert_array_equal(here.radar["S1A"].values, there.radar["S1A"].values)

    store = f"s3://{bucket}/store"
    assert list(run(plan_cubes(f"s3://{bucket}/cubes", store, MAPPING)).committed.tiles) == ["site"]
    sheet = f"s3://{bucket}/sheet.png"
    assert main(["inspect", store, "--verify", "--deep", "--contact-sheet", sheet]) == 0
    assert "verified 1 tiles: 0 damaged" in capsys.readouterr().out
    assert s3.client().get_object(Bucket=bucket, Key="sheet.png")["Body"].read(4) == b"\x89PNG"

    key = "store/tiles/site.parquet"
    content = bytearray(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    s3.client().put_object(Bucket=bucket, Key=key, Body=bytes(content))
    assert main(["inspect", store, "--verify"]) == 1
    assert_names(capsys.readouterr().err, "site.parquet", "checksum")


def test_a_truncated_chunk_is_noticed_there_too(tmp_path: Path, s3: Any, bucket: str) -> None:
    write_site(tmp_path / "site")
    for file in (tmp_path / "site").rglob("*"):
        if file.is_file():
            body = file.read_bytes()[:20] if file.name == "0.0.0" else file.read_bytes()
            s3.client().put_object(Bucket=bucket, Key=str(file.relative_to(tmp_path)), Body=body)
    manifest = run(plan_cubes(f"s3://{bucket}/site", tmp_path / "store", MAPPING)).committed
    assert_names(manifest.quarantined["site"], "s2.zarr", "red/0.0.0")
