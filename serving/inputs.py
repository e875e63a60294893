"""Input series, uploaded or named by URI: parsed in a separate process, and read from allowed storage only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from restore_dit.config.simulation import SimulationConfig
from restore_dit.data.simulation import simulate_tile
from restore_dit.data.storage import exists, is_folder, locate, open_file, read_bytes
from restore_dit.data.store.manifest import MANIFEST_NAME
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import TooLarge, UserError
from restore_dit.series import TileSeries
from serving.config import ServingConfig
from serving.parsing import Parser

MAX_SAMPLES = 1_000_000
"""Largest seed of a simulated sample."""


class NamedInput(BaseModel):
    """A series in storage (a NetCDF file, a ZIP archive of GeoTIFFs, or a tile of a tile store), or a simulated one."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field("", max_length=2000, description="for example s3://bucket/series.nc, below an allowed prefix")
    tile: str = Field("", max_length=200, description="tile to read if the URI is a tile store")
    sample: int | None = Field(None, ge=0, le=MAX_SAMPLES, description="instead of a URI: seed of a simulated series")

    @model_validator(mode="after")
    def _one_of_them(self) -> NamedInput:
        if bool(self.uri) == (self.sample is not None):
            raise ValueError("give either a uri or a sample")
        return self


@lru_cache(maxsize=8)
def simulated_sample(seed: int) -> TileSeries:
    """A simulated series of 64×64 pixels and four months."""
    return simulate_tile(SimulationConfig(height=64, width=64, days=120), seed, 0)


@dataclass
class Inputs:
    """Reads inputs within the service's limits."""

    config: ServingConfig
    parser: Parser

    @classmethod
    def of(cls, config: ServingConfig) -> Inputs:
        """Inputs for this configuration, with their own parser process."""
        limits = config.limits
        return cls(config, Parser(limits.series, limits.parse_seconds, limits.body_megabytes * 1_000_000))

    def require_allowed(self, uri: str) -> None:
        """Refuses local paths and anything outside the allowed prefixes.

        Raises:
            UserError: the URI is refused. The message names no prefix, which would reveal what else exists.
        """
        scheme, separator, rest = uri.partition("://")
        parts = rest.split("/")
        if not separator or scheme.lower() == "file" or any(part in ("", ".", "..") for part in parts):
            raise UserError("uri: must name an object in storage, such as s3://bucket/series.nc")
        if any(character in uri for character in "\\%?#@\0\n\r"):
            raise UserError("uri: contains a character that is not allowed (\\ % ? # @, NUL or a line break)")
        if not any(uri.startswith(prefix.rstrip("/") + "/") for prefix in self.config.storage if "://" in prefix):
            raise UserError("uri: outside the storage that this service may read")

    async def read(self, kind: str, name: str, content: bytes) -> TileSeries:
        """The series of an upload (`netcdf`, `geotiff`), or of a `uri`, whose content is a `NamedInput`.

        Raises:
            UserError: the input is refused, unreadable or exceeds a limit.
        """
        if kind != "uri":
            return await self.parser.parse(content, kind, name)
        try:
            wanted = NamedInput.model_validate_json(content)
        except ValidationError:
            raise UserError("body: must be a JSON object with either a uri or a sample") from None
        if wanted.sample is not None:
            return await asyncio.to_thread(simulated_sample, wanted.sample)
        self.require_allowed(wanted.uri)
        if wanted.tile:
            return await asyncio.to_thread(self._tile, wanted)
        content = await asyncio.to_thread(self._object, wanted.uri)
        return await self.parser.parse(content, "geotiff" if content[:2] == b"PK" else "netcdf", wanted.uri)

    def _tile(self, wanted: NamedInput) -> TileSeries:
        if not exists(locate(wanted.uri).join(MANIFEST_NAME)):
            raise UserError(f"{wanted.uri}: not a tile store")
        store = TileStore.open(wanted.uri)
        if wanted.tile not in store.manifest.tiles:
            raise UserError(f"{wanted.uri}: no tile {wanted.tile[:60]!r}")
        record = store.manifest.tiles[wanted.tile]
        for sensor in (record.optical, *record.radar.values()):
            self.config.limits.series.require(wanted.uri, sensor.frames, *record.size, len(sensor.bands))
        return store.load(wanted.tile).series()

    def _object(self, uri: str) -> bytes:
        place = locate(uri)
        if not exists(place) or is_folder(place):
            raise UserError(f"{uri}: no such object; to read from a tile store, name the tile as well")
        most = self.config.limits.body_megabytes * 1_000_000
        with open_file(place) as file:
            size = file.size()
        if size > most:
            raise TooLarge(f"{uri}: larger than {self.config.limits.body_megabytes} MB")
        return read_bytes(place)
