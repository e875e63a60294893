"""A model directory, at any URI: everything that evaluation, reconstruction and serving need, without pickled files.

`config.yaml` (configuration of the training run), `model.safetensors` (averaged weights, with the metrics as metadata,
so that weights and metrics cannot come apart), `normalisation.json`, `metrics.json`, `training_data.json` (the tiles
that training read; missing from older directories and imported models), `README.md` (model card).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from restore_dit import __version__
from restore_dit.config import RunConfig, dump
from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.data.examples.normalisation import Normalisation
from restore_dit.data.storage import Location, Place, exists, locate, read_bytes, write_bytes_atomically
from restore_dit.data.store.manifest import tile_object
from restore_dit.data.store.tile_store import TileStore
from restore_dit.errors import UserError
from restore_dit.model.denoiser import AnyDenoiser, build_denoiser
from restore_dit.reconstruction.model_description import locate_model, read_config

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Model:
    """A trained denoiser in evaluation mode, with its configuration, normalisation and provenance."""

    denoiser: AnyDenoiser
    config: RunConfig
    normalisation: Normalisation
    metrics: dict[str, float] = field(default_factory=dict)
    origin: str = ""
    training_data: TrainingData | None = None

    def bands_of(self, available: Collection[str], where: str) -> tuple[str, ...]:
        """The bands of a series that the model fills: `ModelConfig.bands_of`.

        Raises:
            UserError: the series lacks bands that the model needs; `where` is what the message calls the series.
        """
        try:
            return self.config.model.bands_of(available)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None

    def on_device(self, use_gpu: bool) -> Model:
        """The same model with its weights on the GPU or the CPU.

        Raises:
            UserError: a GPU is requested, but this process sees none.
        """
        if use_gpu and not torch.cuda.is_available():
            raise UserError("sampling.use_gpu=true, but this process sees no GPU; set sampling.use_gpu=false")
        device = "cuda" if use_gpu else "cpu"
        return replace(self, denoiser=self.denoiser.to(device))


def save_model(
    place: Place,
    config: RunConfig,
    weights: Mapping[str, Tensor],
    normalisation: Normalisation,
    metrics: Mapping[str, float],
    training_data: TrainingData | None = None,
) -> None:
    """Writes a model directory. The weights come after the files needed to read them, so that a directory with weights
    is usable even if writing was interrupted."""
    folder = locate(place)
    write_bytes_atomically(folder.join("config.yaml"), dump(config).encode())
    write_bytes_atomically(folder.join("normalisation.json"), normalisation.to_json())
    write_bytes_atomically(folder.join("README.md"), _card(config, metrics).encode())
    if training_data is not None:
        write_bytes_atomically(folder.join("training_data.json"), training_data.to_json())
    content = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in weights.items()},
        metadata={"metrics": json.dumps(dict(metrics)), "restore_dit": __version__},
    )
    write_bytes_atomically(folder.join(WEIGHTS_FILE), content)
    write_bytes_atomically(folder.join("metrics.json"), json.dumps(dict(metrics), indent=2).encode())


def load_model(place: Place) -> Model:
    """Loads a model directory that `save_model` wrote, or the shipped model by its name.

    Raises:
        UserError: there is no model, a file is damaged, or weights and configuration do not match.
    """
    folder = locate_model(place)
    if not exists(folder.join(WEIGHTS_FILE)):
        hint = f"; did you mean {folder.uri}/model?" if exists(folder.join("model", WEIGHTS_FILE)) else ""
        raise UserError(f"{folder.uri}: not a model directory (no model.safetensors){hint}")
    config = read_config(folder)
    normalisation = Normalisation.from_json(
        read_bytes(folder.join("normalisation.json")), folder.join("normalisation.json").uri
    )
    weights, metrics = _read_weights(folder.join(WEIGHTS_FILE).uri, read_bytes(folder.join(WEIGHTS_FILE)))
    denoiser = build_denoiser(config.model)
    try:
        denoiser.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{folder.uri}: model.safetensors does not match config.yaml: {first}; copy the model again"
        ) from None
    name = SHIPPED_MODEL if place == SHIPPED_MODEL else folder.uri
    return Model(denoiser.eval(), config, normalisation, metrics, name, _read_training_data(folder))


def _read_training_data(folder: Location) -> TrainingData | None:
    place = folder.join("training_data.json")
    return TrainingData.from_json(read_bytes(place), place.uri) if exists(place) else None


def _read_weights(origin: str, content: bytes) -> tuple[dict[str, Tensor], dict[str, float]]:
    try:
        weights = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metrics = json.loads(header.get("__metadata__", {}).get("metrics", "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{origin}: damaged ({error}); copy the model again") from None
    return weights, metrics


def _card(config: RunConfig, metrics: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in metrics.items())
    radar = ", ".join(config.model.radar_channels) or "none"
    network = config.model
    kind = (
        f"pixels, {network.nearest} dates" if network.network == "pixels" else f"patches of {network.patch_size} pixels"
    )
    return f"""# {config.name}
A RESTORE-DiT denoiser that fills gaps in Sentinel-2 time series, written by restore-dit {__version__}.

| | |
|---|---|
| bands | {", ".join(config.model.bands)} |
| radar | {radar} |
| network | {kind}; hidden size {network.hidden_size}, depth {network.depth}, heads {network.heads} |
| trained on | {config.data.store} |
| split | {config.data.split.by} |

Validation metrics at the step of these weights (on the published scale clamp(DN, 0, 8000)/8000 unless noted):

| metric | value |
|---|---|
{rows}

Use: `restore-dit reconstruct MODEL IN OUT`, `restore-dit evaluate MODEL STORE --protocol paper`.
It was trained on the store above; do not rely on it for land cover, seasons or sensors that the store does not contain.
"""


@dataclass(frozen=True)
class TrainingData:
    """The store's fingerprint and the tiles that training or validation read, with the checksums of their files. The
    checksums also identify the tiles in a copy of the store at another address, or in a store that has grown."""

    store_fingerprint: str
    tiles: Mapping[str, str]

    @classmethod
    def of(cls, store: TileStore, tile_ids: Iterable[str]) -> TrainingData:
        """The given tiles of a store."""
        return cls(store.fingerprint, {tile_id: _checksum(store, tile_id) for tile_id in sorted(tile_ids)})

    def after(self, earlier: TrainingData | None) -> TrainingData:
        """A copy that also contains the tiles seen by the model from which the run was initialised."""
        return self if earlier is None else TrainingData(self.store_fingerprint, {**earlier.tiles, **self.tiles})

    def seen(self, store: TileStore, tile_ids: Sequence[str]) -> list[str]:
        """The tiles of a store that training has seen: by id (it may be a longer series of the same place) or by
        content."""
        known = set(self.tiles.values())
        return [tile_id for tile_id in tile_ids if tile_id in self.tiles or _checksum(store, tile_id) in known]

    def to_json(self) -> bytes:
        """The content of `training_data.json`."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def from_json(cls, content: bytes, origin: str) -> TrainingData:
        """Parses the output of `to_json`; `origin` is what messages call the file.

        Raises:
            UserError: the content is invalid.
        """
        try:
            fields = json.loads(content)
            tiles = {str(tile_id): str(found) for tile_id, found in fields["tiles"].items()}
            return cls(str(fields["store_fingerprint"]), tiles)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{origin}: not a list of training data ({error!r}); copy the model again") from None


def _checksum(store: TileStore, tile_id: str) -> str:
    return store.manifest.tiles[tile_id].objects[tile_object(tile_id)].checksum
