"""Files of strangers are read elsewhere, within limits; whatever they do, the service goes on."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.exchange import geotiff_archive, netcdf
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.data.simulation import simulate_tile
from restore_dit.errors import UserError
from restore_dit.reconstruction.rasters import geotiffs
from restore_dit.series import TileSeries
from serving import parsing
from serving.parser_process import MAX_FILES
from serving.parsing import Parser
from tests.data import test_offset
from tests.messages import assert_names
from tests.serving.damage import damaged

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def series():
    return simulate_tile(SimulationConfig(height=16, width=20, days=60, field_hectares=0.8), 1, 0)


def parsed(*files: tuple[bytes, str], seconds: int = 30, values: int = 10_000_000) -> list:
    """What becomes of each file, all sent at the same time."""

    async def run() -> list:
        parser = Parser(SeriesLimits(values=values), seconds=seconds)
        try:
            asked = (parser.parse(content, kind, "upload") for content, kind in files)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            parser.close()

    return asyncio.run(run())


def test_both_kinds_come_back_as_they_were(series):
    archive = geotiff_archive.encode(dict(geotiffs(series, series.clouds != 0)))
    cube, tiffs = parsed((netcdf.encode(series), "netcdf"), (archive, "geotiff"))
    for found in (cube, tiffs):
        np.testing.assert_array_equal(found.optical.values, series.optical.values)
        np.testing.assert_array_equal(found.optical.dates, series.optical.dates)
        assert found.georeference == series.georeference
    np.testing.assert_array_equal(cube.clouds, series.clouds)
    np.testing.assert_array_equal(cube.radar["S1A"].values, series.radar["S1A"].values)


def test_remarks_on_a_file_come_back_too():
    optical = test_offset.brighter(test_offset.series(), 1000)
    clear = np.zeros((len(optical), *optical.values.shape[2:]), np.uint8)
    cube = netcdf.encode(TileSeries("site", optical, clear))
    (found,) = parsed((cube, "netcdf"))
    (remark,) = found.remarks
    assert_names(remark, "upload", 1000)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Two MB that unpack to 2 GB within one chunk, which the header's sizes do not tell."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in ("time", "y", "x"):
            file.create_dataset(name, (2,), "i4").make_scale(name)
        band = file.create_dataset("B02", (2, 2, 2), "i2", chunks=(2, 2, 2), compression="gzip")
        for axis, name in enumerate(("time", "y", "x")):
            band.dims[axis].attach_scale(file[name])
        file["time"].attrs["units"] = "days since 1970-01-01"
        file["time"][...] = [10_000, 10_005]
        packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)  # may stand any number of times
        checksum = ((128 << 24) % 65521) << 16 | 1
        band.id.write_direct_chunk((0, 0, 0), b"\x78\x01" + 128 * zeros + b"\x03\x00" + checksum.to_bytes(4))
    return buffer.getvalue()


def test_a_file_that_would_fill_the_memory_ends_its_reader_and_nothing_else(series, bomb):
    """Beside it, a series is read as ever."""
    assert len(bomb) < 20_000_000
    spoilt, good = parsed((bomb, "netcdf"), (netcdf.encode(series), "netcdf"), values=1_000_000)
    assert isinstance(spoilt, UserError)
    assert "\n" not in str(spoilt)
    np.testing.assert_array_equal(good.optical.values, series.optical.values)


def test_a_file_that_takes_too_long_ends_its_reader(bomb):
    """With memory enough, it would take longer than a second."""
    begin = time.monotonic()
    (found,) = parsed((bomb, "netcdf"), seconds=1, values=400_000_000)
    assert isinstance(found, UserError)
    assert_names(str(found), "time")
    assert time.monotonic() - begin < 30


def test_damaged_files_are_refused_in_one_line_or_read(series):
    """Bits flipped, ends cut off, pieces left out; nothing of this machine in what is said."""
    dice = random.Random(4)
    sources = [
        (netcdf.encode(series), "netcdf"),
        (geotiff_archive.encode(dict(geotiffs(series, series.clouds != 0))), "geotiff"),
    ]
    files = []
    for number in range(60):
        content, kind = sources[number % 2]
        files.append((damaged(content, dice), kind))
    answers = parsed(*files)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert len(refused) > 20
    for answer in refused:
        assert type(answer) is UserError
        assert "\n" not in str(answer)
        assert os.sep + "tmp" not in str(answer)
        assert ".py" not in str(answer)


def test_a_process_reads_one_file_after_another_until_it_refuses_one(series):
    """Its limits hold for each file: together they take more processor time than one may."""

    async def run() -> None:
        parser = Parser(SeriesLimits(), seconds=3)
        content = netcdf.encode(series)
        try:
            await parser.parse(content, "netcdf", "upload")
            (child,) = parser._idle
            while sum(child._process.cpu_times()[:2]) < 3.5 and child._files < MAX_FILES - 1:
                child._files = 1
                await parser.parse(content, "netcdf", "upload")
            assert parser._idle == [child]
            with pytest.raises(UserError):
                await parser.parse(content[:900], "netcdf", "upload")
            assert parser._idle == []
            assert ends(child._process)
        finally:
            parser.close()

    asyncio.run(run())


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_RESIDENT", 1 << 20)])
def test_a_process_that_has_read_much_or_grown_is_replaced(series, monkeypatch, limit, value):
    monkeypatch.setattr(parsing, limit, value)

    async def run() -> None:
        parser = Parser(SeriesLimits())
        try:
            seen = []
            for _ in range(5):
                found = await parser.parse(netcdf.encode(series), "netcdf", "upload")
                np.testing.assert_array_equal(found.optical.values, series.optical.values)
                seen.append(parser._idle[0])
            assert len(set(map(id, seen))) == (3 if limit == "MAX_FILES" else 5)
            before, latest = seen[:-1], seen[-1]
            assert [child for child in before if child is not latest and not ends(child._process)] == []
            assert latest._process.is_running()
        finally:
            parser.close()

    asyncio.run(run())


def ends(process: psutil.Process) -> bool:
    """Whether it has been killed, or ended: that takes a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


HEADER = {
    "tile_id": "a", "size": [2, 3], "clouds": False, "radar": {}, "georeference": None,
    "optical": {"days": [17897], "bands": ["B02"]},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"size": [2, 4]},
        {"size": [-2, -3]},
        {"size": [2, 10**6]},
        {"size": "2x3"},
        {"optical": {"days": [10**12], "bands": ["B02"]}},
        {"optical": {"days": [17898, 17897], "bands": ["B02"]}},
        {"optical": {"days": [17897], "bands": ["B02", "B03"]}},
        {"clouds": True},
        {"georeference": ["EPSG:32631", [1, 2]]},
        {"radar": {f"S1A{number}": {"days": [], "bands": []} for number in range(9)}},
    ],
)
def test_what_a_process_sends_is_checked(changes):
    """As if a file had taken it over: what it announces does not fit what it sends, or the limits."""
    content = np.arange(6, dtype=np.int16).tobytes()
    found = parsing.read_series(parsing._Answer.model_validate(HEADER), io.BytesIO(content), SeriesLimits())
    assert found.optical.values.ravel().tolist() == list(range(6))
    with pytest.raises((ValueError, EOFError, UserError)):
        parsing.read_series(parsing._Answer.model_validate(HEADER | changes), io.BytesIO(content), SeriesLimits())


def test_the_process_is_begun_anew_when_it_has_ended(series):
    async def run() -> None:
        parser = Parser(SeriesLimits())
        content = netcdf.encode(series)
        try:
            await parser.parse(content, "netcdf", "upload")
            parser._parent.kill()
            parser._parent.wait()
            parser._idle[0].end()
            found = await parser.parse(content, "netcdf", "upload")
            np.testing.assert_array_equal(found.optical.values, series.optical.values)
        finally:
            parser.close()

    asyncio.run(run())


def test_there_are_never_more_processes_than_files_at_once_and_none_is_left_when_they_end(series):
    async def run() -> None:
        parser = Parser(SeriesLimits(), at_once=2)
        content = netcdf.encode(series)
        try:
            await asyncio.gather(*(parser.parse(content, "netcdf", "upload") for _ in range(6)))
            parent = psutil.Process(parser._parent.pid)
            children = parent.children()
            assert len(children) == 2
            assert set(children) == {child._process for child in parser._idle}
            for _ in range(2):
                with pytest.raises(UserError):
                    await parser.parse(content[:900], "netcdf", "upload")
            deadline = time.monotonic() + 10
            while parent.children() and time.monotonic() < deadline:  # zombies are listed too
                time.sleep(0.02)
            assert parent.children() == []
        finally:
            parser.close()

    asyncio.run(run())


def test_a_process_cannot_reach_the_connections_of_others(series):
    """Of sockets it has its own connection, not the one on which its parent receives those of others."""

    async def run() -> None:
        parser = Parser(SeriesLimits(), at_once=2)
        content = netcdf.encode(series)
        try:
            await asyncio.gather(*(parser.parse(content, "netcdf", "upload") for _ in range(2)))
            parent = sockets(parser._parent.pid)
            children = [sockets(child._process.pid) for child in parser._idle]
            assert [len(found) for found in (parent, *children)] == [1, 1, 1]
            assert len(parent.union(*children)) == 3
        finally:
            parser.close()

    asyncio.run(run())


def sockets(process: int) -> set[str]:
    """The sockets that a process has open, by the kernel's names for them."""
    found = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(descriptor))
    return {name for name in found if name.startswith("socket:")}


SERVICE = """
import asyncio, sys, time
from restore_dit.data.exchange.limits import SeriesLimits
from serving.parsing import Parser

parser = Parser(SeriesLimits())
asyncio.run(parser.parse(sys.stdin.buffer.read(), "netcdf", "upload"))
print("parsed", flush=True)
time.sleep(100)
"""


def test_nothing_is_left_of_a_service_that_is_killed(series, tmp_path):
    """Neither a process nor a file, though nothing could tidy up."""
    folders = {name: str(tmp_path) for name in ("TMPDIR", "TEMP", "TMP")}
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | folders | paths
    )
    with service:
        try:
            service.stdin.write(netcdf.encode(series))
            service.stdin.close()
            assert service.stdout.readline() == b"parsed\n"
            processes = psutil.Process(service.pid).children(recursive=True)
        finally:
            service.kill()
    assert len(processes) == 2
    assert [process for process in processes if not ends(process)] == []
    assert list(tmp_path.iterdir()) == []
