"""The files of a PASTIS-R source, by their names in the layout: an unpacked folder or a ZIP, at any location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from restore_dit.config.ingestion import PastisConfig
from restore_dit.data import storage
from restore_dit.data.pastis.layout import ARCHIVE_FOLDER, METADATA
from restore_dit.data.pastis.remote_file import RemoteFile, SourceUnreachable
from restore_dit.data.pastis.zip_archive import Archive, RemoteArchive, StoredArchive, read_directory
from restore_dit.errors import UserError

_FOLDERS = ("DATA_S2", "DATA_S1A", "DATA_S1D", "ANNOTATIONS", "REAL_MASKS")


@dataclass(frozen=True)
class FolderFile:
    """A file of an unpacked folder; `name` is its path in the layout."""

    location: storage.Location
    name: str

    def read(self) -> bytes:
        """The file's content.

        Raises:
            UserError: this file cannot be read.
            SourceUnreachable: the storage that holds it cannot be read either.
        """
        try:
            return storage.read_bytes(self.location)
        except UserError as error:
            try:
                storage.exists(self.location)
            except UserError:
                raise SourceUnreachable(str(error)) from None
            raise


class SourceFile(Protocol):
    """A file of the source, at any location; can be pickled."""

    def read(self) -> bytes:
        """The file's content; raises the same errors as `FolderFile.read`."""


@dataclass(frozen=True)
class Source:
    """The files available, by their names in the layout, such as `DATA_S2/S2_10000.npy`; `remote` if they are requested
    from a web server."""

    uri: str
    files: Mapping[str, SourceFile]
    remote: bool = False

    def origin(self, name: str) -> str:
        """How messages refer to one of its files."""
        return f"{self.uri}: {name}"


def open_source(config: PastisConfig) -> Source:
    """The source's files, found by listing folders or by reading an archive's directory.

    Raises:
        UserError: nothing is there, it is not PASTIS-R or not a ZIP, or the web server does not serve ranges.
    """
    if config.source.lower().startswith(("http://", "https://")):
        return _archive_source(RemoteArchive(RemoteFile(config.source, config.transfer)))
    location = storage.locate(config.source)
    if not storage.exists(location):
        raise UserError(f"{location.uri}: no such folder or file: specify PASTIS-R's folder or its ZIP")
    if storage.is_folder(location):
        return _folder_source(location)
    return _archive_source(StoredArchive(location))


def _folder_source(location: storage.Location) -> Source:
    names = storage.list_names(location)
    if METADATA not in names and ARCHIVE_FOLDER in names:
        return _folder_source(location.join(ARCHIVE_FOLDER))
    if METADATA not in names:
        raise UserError(f"{location.uri}: not PASTIS-R (no {METADATA}): specify the folder that the archive unpacks to")
    files = {name: FolderFile(location.join(name), name) for name in names if name.endswith((".json", ".geojson"))}
    for folder in _FOLDERS:
        if folder in names:
            files |= _files_of(location.join(folder), folder)
    return Source(location.uri, files)


def _files_of(location: storage.Location, folder: str) -> dict[str, FolderFile]:
    return {
        f"{folder}/{name}": FolderFile(location.join(name), f"{folder}/{name}") for name in storage.list_names(location)
    }


def cloud_mask_files(uri: str) -> dict[str, FolderFile]:
    """The masks of a folder outside the source, by their names in the layout.

    Raises:
        UserError: there is no such folder.
    """
    location = storage.locate(uri)
    if not storage.is_folder(location):
        raise UserError(f"{location.uri}: no such folder: specify the one that contains <patch>.npy")
    return _files_of(location, "REAL_MASKS")


def _archive_source(archive: Archive) -> Source:
    members = read_directory(archive)
    roots = [name.removesuffix(METADATA) for name in members if name == METADATA or name.endswith(f"/{METADATA}")]
    if not roots:
        raise UserError(f"{archive.uri}: not PASTIS-R (no {METADATA} in the archive): specify PASTIS-R.zip")
    root = min(roots, key=len)
    files = {name.removeprefix(root): member for name, member in members.items() if name.startswith(root)}
    return Source(archive.uri, files, remote=isinstance(archive, RemoteArchive))
