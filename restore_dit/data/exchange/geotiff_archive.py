"""One series as a ZIP archive of GeoTIFFs, one file per date, with the file names that `reconstruct` uses.

`SITE_2019-05-03.tif` has the bands, identified by their descriptions (`B02`, …); `SITE_2019-05-03_clouds.tif` has the
classes (0 clear, 1 thick, 2 thin, 3 shadow, 255 no data), or `SITE_2019-05-03_gap.tif` marks what is missing (1);
`SITE_2019-05-03_S1A.tif` has radar of track S1A in dB, bands VV and VH. `SITE_2019-05-03_ndvi.tif` is ignored.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from restore_dit.data.crs import crs_name, require_sentinel_pixels
from restore_dit.data.cubes.geotiff_series import read_masked
from restore_dit.data.cubes.grid import same_grid
from restore_dit.data.cubes.radar import radar_near
from restore_dit.data.exchange.limits import SeriesLimits
from restore_dit.data.stored_values import (
    offset_remark,
    require_more_than_bytes,
    require_no_empty_pixels,
    require_reflectance,
    require_stored_backscatter,
    to_stored,
)
from restore_dit.errors import TooLarge, UserError
from restore_dit.series import (
    CLEAR,
    CLOUD_NO_DATA,
    DECIBEL_SCALE,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2_ALL_BANDS,
    SHADOW,
    UNCERTAINTY,
    Acquisitions,
    Georeference,
    TileSeries,
)

_NAME = re.compile(r"(?:(?P<tile>[^/\\]*?)_)?(?P<date>\d{4}-?\d{2}-?\d{2})(?:_(?P<kind>[A-Za-z0-9]+))?\.tiff?", re.I)
_MASKS = {"clouds": SHADOW, "gap": 1}
_COMPUTED = re.compile(rf"ndvi|ndre|{UNCERTAINTY}|sample\d+", re.I)
"""Kinds of files that `reconstruct` writes and that are ignored when reading."""

_Place = tuple[tuple[int, int], Georeference | None]
"""Size and georeference of a raster."""

MAX_MEMBERS = 5000
"""Maximum number of files in an archive."""


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    tile: str
    date: np.datetime64
    kind: str


class ArchiveReader:
    """Reads one archive.

    Args:
        content: bytes of the ZIP file.
        name: name of the file, for errors.
        limits: maximum sizes; larger files are not read.
    """

    def __init__(self, content: bytes, name: str, limits: SeriesLimits) -> None:
        self.name, self.limits = name, limits
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise UserError(f"{name}: not a ZIP archive ({error})") from None
        self.place: _Place | None = None

    def series(self) -> TileSeries:
        """The series in the archive; raises the same errors as `decode`."""
        members = self._members()
        kinds: dict[str, list[_Member]] = defaultdict(list)
        for member in members:
            kinds[member.kind].append(member)
        if "" not in kinds:
            raise UserError(f"{self.name}: no image; name them TILE_YYYY-MM-DD.tif")
        images = kinds.pop("")
        self._require_distinct(images)
        masks = next((kind for kind in _MASKS if kind in kinds), None)
        clouds = None if masks is None else self._clouds(kinds.pop(masks), masks, [image.date for image in images])
        for kind in _MASKS:
            kinds.pop(kind, None)
        masked = None if clouds is None else clouds != CLEAR
        optical = self._images(images, S2_ALL_BANDS, REFLECTANCE_SCALE, 3.2, masked)
        where = f"{self.name}:"
        require_reflectance(optical.values, where, "set the scale, offset and no-data value of each band")
        observed = np.ones(optical.values[:, 0].shape, bool) if masked is None else ~masked
        require_no_empty_pixels(optical.values, observed, where, "set the no-data value of each band, or mask them")
        self.limits.require_tracks(self.name, len(kinds))
        radar = {
            track: self._images(files, S1_BANDS, DECIBEL_SCALE, limit=320) for track, files in sorted(kinds.items())
        }
        for track, series in radar.items():
            require_stored_backscatter(series, f"{where} {track}_VH")
        assert self.place is not None
        tile = re.sub(r"[^A-Za-z0-9_.-]", "", members[0].tile).strip("._-")[:60] or "series"
        remarks = list(offset_remark(optical, where, "set an offset of -0.1 with a scale of 0.0001, or subtract 1000"))
        radar = radar_near(radar, optical.dates, remarks, f"{where} ")
        return TileSeries(tile, optical, clouds, radar, self.place[1], remarks=tuple(remarks))

    def _members(self) -> list[_Member]:
        infos = [info for info in self.archive.infolist() if not info.is_dir()]
        if len(infos) > MAX_MEMBERS:
            raise TooLarge(f"{self.name}: {len(infos)} files; at most {MAX_MEMBERS} are accepted")
        found = []
        for info in infos:
            match = _NAME.fullmatch(info.filename.rpartition("/")[2])
            if match is None:
                if info.filename.lower().endswith((".tif", ".tiff")):
                    raise UserError(f"{self.name}: no date in the name {info.filename[:60]!r}; use TILE_YYYY-MM-DD.tif")
                continue
            digits = match["date"].replace("-", "")
            try:
                date = np.datetime64(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}", "D")
            except ValueError:
                raise UserError(f"{self.name}: {match['date']} is not a date") from None
            kind = match["kind"] or ""
            if _COMPUTED.fullmatch(kind):
                continue
            found.append(_Member(info, match["tile"] or "", date, kind.lower() if kind.lower() in _MASKS else kind))
        if len({member.tile for member in found}) > 1:
            raise UserError(f"{self.name}: files of several tiles; send one series at a time")
        return sorted(found, key=lambda member: (member.date, member.kind))

    def _images(
        self,
        members: list[_Member],
        known: tuple[str, ...],
        scale: int,
        limit: float,
        masked: NDArray[np.bool_] | None = None,
    ) -> Acquisitions:
        self._require_distinct(members)
        bands: tuple[str, ...] | None = None
        frames = []
        for index, member in enumerate(members):
            hidden = None if masked is None else masked[index]
            names, values = self._read(member, known, scale, limit, len(members), hidden)
            if bands is not None and names != bands:
                raise UserError(f"{self.name}: {member.info.filename[:60]} has bands {', '.join(names)}, others have "
                                f"{', '.join(bands)}")  # fmt: skip
            bands = names
            frames.append(values)
        assert bands is not None
        return Acquisitions(np.stack(frames), np.array([member.date for member in members]), bands)

    def _clouds(self, members: list[_Member], kind: str, dates: list[np.datetime64]) -> NDArray[np.uint8]:
        self._require_distinct(members)
        by_date = {member.date: member for member in members}
        frames = []
        for date in dates:
            if date not in by_date:
                raise UserError(
                    f"{self.name}: no file {kind} for {date}; either every image needs one, or none may have one"
                )
            with self._open(by_date[date], len(dates)) as raster:
                stored = read_masked(raster, 1)
            # A no-data value of 0 is inherited from a classification: 0 means clear here.
            unknown = (np.ma.getmaskarray(stored) & (stored.data != CLEAR)) | (stored.data == CLOUD_NO_DATA)
            unknown &= kind == "clouds"
            values = np.where(unknown, 0, stored.data)
            if not ((values >= 0) & (values <= _MASKS[kind])).all():
                raise UserError(f"{self.name}: {by_date[date].info.filename[:60]} has values that are not classes")
            frames.append(np.where(unknown, CLOUD_NO_DATA, values).astype(np.uint8))
        return np.stack(frames)

    def _require_distinct(self, members: list[_Member]) -> None:
        for before, after in itertools.pairwise(members):
            if before.date == after.date:
                raise UserError(f"{self.name}: two images of {after.date}; only one per day is accepted: merge them")

    def _read(
        self,
        member: _Member,
        known: tuple[str, ...],
        scale: int,
        limit: float,
        count: int,
        masked: NDArray[np.bool_] | None,
    ) -> tuple[tuple[str, ...], NDArray[np.int16]]:
        """Names of the bands, and the values [C, H, W] in steps of 1/scale. `masked` [H, W] is for `to_stored`."""
        with self._open(member, count) as raster:
            described = dict(zip((str(text) for text in raster.descriptions), raster.indexes, strict=True))
            names = tuple(band for band in known if band in described)
            if not names:
                raise UserError(
                    f"{self.name}: no band of {member.info.filename[:60]} is described as {', '.join(known[:3])}, …"
                )
            layers = []
            for band in names:
                index = described[band]
                raw = read_masked(raster, index)
                factor, offset = raster.scales[index - 1], raster.offsets[index - 1]
                where = f"{self.name}: {band} of {member.info.filename[:60]}"
                require_more_than_bytes(raw.dtype, factor != 1, where)
                missing = np.ma.getmaskarray(raw)
                if masked is not None and masked.shape != missing.shape:
                    raise UserError(f"{where} has another size than its mask; resample all to one grid")
                layers.append(to_stored(raw.data, missing, factor, offset, scale, limit, where, masked))
        return names, np.stack(layers)

    def _open(self, member: _Member, count: int) -> _Opened:
        return _Opened(self, member, count)

    def check_place(self, member: _Member, raster: DatasetReader, count: int) -> None:
        """Checks a raster's size, and that it has the same pixels as the first.

        Raises:
            TooLarge: the raster is too large.
            UserError: it has another size, position or CRS than the first.
        """
        self.limits.require(self.name, count, raster.height, raster.width, raster.count)
        georeference = None
        if raster.crs is not None:
            a, b, c, d, e, f = tuple(raster.transform)[:6]
            georeference = Georeference(crs_name(raster.crs), (a, b, c, d, e, f))
        place = raster.shape, georeference
        if self.place is None:
            if georeference is not None:
                require_sentinel_pixels(f"{self.name}: {member.info.filename[:60]}", georeference, raster.shape)
            self.place = place
        elif not _is_one_place(place, self.place):
            raise UserError(
                f"{self.name}: {member.info.filename[:60]} differs from the first in size, position or CRS; resample "
                "all to one grid"
            )


def _is_one_place(one: _Place, other: _Place) -> bool:
    """Whether two rasters have the same pixels."""
    (size, where), (other_size, elsewhere) = one, other
    if where is None or elsewhere is None:
        return one == other
    return where.crs == elsewhere.crs and same_grid(
        GeoBox(size, Affine(*where.transform), None), GeoBox(other_size, Affine(*elsewhere.transform), None)
    )


class _Opened:
    """Context that opens a member as a raster, checks it and closes it at the end."""

    def __init__(self, reader: ArchiveReader, member: _Member, count: int) -> None:
        self.reader, self.member, self.count = reader, member, count

    def __enter__(self) -> DatasetReader:
        name, info = self.reader.name, self.member.info
        most = self.reader.limits.values * 8
        if info.file_size > most:
            raise TooLarge(f"{name}: {info.filename[:60]} is too large")
        try:
            with self.reader.archive.open(info) as stream:
                content = stream.read(most + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            raise UserError(f"{name}: {info.filename[:60]} cannot be unpacked ({error})") from None
        self.memory = MemoryFile(content)
        try:
            self.raster = self.memory.open(driver="GTiff")
            self.reader.check_place(self.member, self.raster, self.count)
        except RasterioError:
            self.memory.close()
            raise UserError(f"{name}: {info.filename[:60]} is not a GeoTIFF, or is damaged") from None
        return self.raster

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.raster.close()
        self.memory.close()
        if isinstance(error, RasterioError):
            raise UserError(f"{self.reader.name}: {self.member.info.filename[:60]} is damaged") from None


def decode(content: bytes, name: str, limits: SeriesLimits | None = None) -> TileSeries:
    """The series in an archive.

    Raises:
        UserError: the content is not an archive, is damaged or too large, or has no image, duplicate dates, images with
            different grids or bands, or masks that lack a date.
    """
    return ArchiveReader(content, name, limits or SeriesLimits()).series()


def encode(files: Mapping[str, bytes]) -> bytes:
    """An archive of files by name, stored without compression, since GeoTIFFs are compressed themselves."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
