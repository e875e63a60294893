"""The completion record of a tile, `<tile>.json`: written last, it marks the results as complete and identifies what
they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from restore_dit.config.examples import Section
from restore_dit.config.jobs import ReconstructionConfig
from restore_dit.data.storage import Location, list_names, read_bytes, write_bytes_atomically
from restore_dit.data.store.manifest import TileRecord
from restore_dit.reconstruction.model_directory import Model
from restore_dit.reconstruction.reconstruct import mask_dilation
from restore_dit.reconstruction.sampling import SamplingOptions

_LOOK_UPS_AT_ONCE = 16

_PACKAGE = Path(__file__).resolve().parents[1]
_CODE_OF_RESULTS = (
    "reconstruction",
    "model",
    "diffusion",
    "data/examples",
    "data/stored_values.py",
    "indices.py",
    "series.py",
)
"""Files of the package, and folders of files, that determine what is filled, and how."""


class Completion(Section):
    """The record of a reconstructed tile: the names of its files, and the `key` of everything that determines their
    content."""

    key: str
    model: str
    files: tuple[str, ...]
    dates: int
    reconstructed: float
    """Share of the pixels that were filled."""
    never_observed: int
    """Number of pixels that are observed on no date."""


def run_key(model: Model, config: ReconstructionConfig, options: SamplingOptions) -> str:
    """A checksum of everything that determines the results of all tiles: weights, options and the code that fills. It
    does not depend on the number of processes or the batch size, which do not change the results."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in model.denoiser.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    content = {
        "code": _code(),
        "weights": weights.hexdigest(),
        "model": model.config.model_dump(mode="json", include={"data", "model", "diffusion"}),
        "normalisation": model.normalisation.to_json().decode(),
        "sampling": options.solver(model),
        "seed": options.seed,
        "samples": options.samples,
        "precision": options.precision,
        "mask_dilation": mask_dilation(model, options),
        "calibrate": options.calibrate,
        "orbit_offsets": options.orbit_offsets,
        "replace_suspect": options.replace_suspect,
        "dates": [config.dates, config.every],
        "output": [config.format, config.figures, *config.indices],
    }
    return _checksum(content)


@cache
def _code() -> str:
    """A checksum of the code that determines results. A version number would miss changes between releases."""
    found = hashlib.blake2b(digest_size=16)
    for name in _CODE_OF_RESULTS:
        place = _PACKAGE / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def tile_key(run: str, record: TileRecord) -> str:
    """A checksum of `run_key` and of the tile's own pixels and masks."""
    files = {name: file.checksum for name, file in sorted(record.objects.items())}
    return _checksum({"run": run, "files": files, "masks": record.masks_in_use})


def _checksum(content: object) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def completion_name(tile_id: str) -> str:
    """File name of a tile's completion record."""
    return f"{tile_id}.json"


def write_completion(folder: Location, tile_id: str, completion: Completion) -> None:
    """Marks the tile as complete. Call it only after all other files are written."""
    write_bytes_atomically(folder.join(completion_name(tile_id)), completion.model_dump_json(indent=1).encode())


def complete_tiles(folder: Location, keys: Mapping[str, str]) -> set[str]:
    """The tiles whose results in the folder are complete and have the expected key (`keys`: tile id → key)."""
    names = set(list_names(folder))
    candidates = [tile_id for tile_id in keys if completion_name(tile_id) in names]
    with ThreadPoolExecutor(_LOOK_UPS_AT_ONCE) as pool:
        found = pool.map(lambda tile_id: _is_complete(folder, tile_id, keys[tile_id], names), candidates)
        return {tile_id for tile_id, complete in zip(candidates, found, strict=True) if complete}


def _is_complete(folder: Location, tile_id: str, key: str, names: set[str]) -> bool:
    place = folder.join(completion_name(tile_id))
    try:
        completion = Completion.model_validate_json(read_bytes(place))
    except ValidationError:
        return False
    inside = {f"{tile_id}/{name}" for name in list_names(folder.join(tile_id))}
    return completion.key == key and set(completion.files) <= names | inside
