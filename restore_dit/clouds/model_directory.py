"""Model directory of a cloud-detection network, at any URI and without pickles, and detectors from such a directory or
from a published file.

It contains `cloud_network.yaml` (bands, encoder, pixel size), `model.safetensors` (weights; its metadata repeats the
configuration and has the weights' checksum), `metrics.json`, and files added by training (a model card, a confusion
matrix).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import yaml
from torch import Tensor, nn

from restore_dit import __version__
from restore_dit.clouds.network.inference import NetworkDetector
from restore_dit.clouds.network.published import load_published
from restore_dit.clouds.network.weights import Misfit, checksum, fitted_network
from restore_dit.config import dump
from restore_dit.config.clouds import CloudNetworkConfig, DetectionConfig
from restore_dit.config.loading import build
from restore_dit.data.storage import Location, Place, exists, is_folder, locate, read_bytes, write_bytes_atomically
from restore_dit.errors import UserError

CONFIG_FILE, WEIGHTS_FILE, METRICS_FILE = "cloud_network.yaml", "model.safetensors", "metrics.json"


@dataclass(frozen=True)
class CloudModel:
    """A cloud-detection network in evaluation mode, its configuration and metrics, and the checksum of its weights
    (hex)."""

    config: CloudNetworkConfig
    network: nn.Module
    metrics: dict[str, Any]
    checksum: str


def save_cloud_model(
    place: Place,
    config: CloudNetworkConfig,
    weights: Mapping[str, Tensor],
    metrics: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Writes a model directory. `files`: further files by name. The weights are written last, so that they never exist
    without the configuration needed to read them."""
    folder = locate(place)
    for name, content in files.items():
        write_bytes_atomically(folder.join(name), content)
    write_bytes_atomically(folder.join(METRICS_FILE), json.dumps(dict(metrics), indent=2).encode())
    write_bytes_atomically(folder.join(CONFIG_FILE), dump(config).encode())
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    metadata = {"network": config.model_dump_json(), "checksum": checksum(plain), "restore_dit": __version__}
    write_bytes_atomically(folder.join(WEIGHTS_FILE), safetensors.torch.save(plain, metadata=metadata))


def load_cloud_model(place: Place) -> CloudModel:
    """Loads a network from a directory written by `save_cloud_model`.

    Raises:
        UserError: not a cloud-detection model, or its files are damaged or do not belong together.
    """
    folder = locate(place)
    _require_cloud_model(folder)
    config = _read_config(folder.join(CONFIG_FILE))
    metrics = _read_metrics(folder.join(METRICS_FILE))
    origin = folder.join(WEIGHTS_FILE).uri
    weights, metadata = _read_weights(origin, read_bytes(folder.join(WEIGHTS_FILE)))
    if metadata["network"] != config:
        raise UserError(f"{origin}: not saved with the {CONFIG_FILE} beside it; copy the model again")
    try:
        network, found = fitted_network(config, weights)
    except Misfit as misfit:
        raise UserError(f"{origin}: {misfit.what}; copy the model again") from None
    if metadata["checksum"] != found:
        raise UserError(f"{origin}: damaged (the checksum of its weights does not match); copy the model again")
    return CloudModel(config, network, metrics, found)


def load_detector(config: DetectionConfig) -> NetworkDetector:
    """The detector with the weights `config.weights`: a model directory, or a published state dict for
    `config.network`.

    Raises:
        UserError: the weights do not exist, or are not those of a cloud-detection network.
    """
    place = locate(config.weights)
    folder, _, name = config.weights.rpartition("/")
    if name == WEIGHTS_FILE and exists(locate(folder or ".").join(CONFIG_FILE)):
        raise UserError(f"{config.weights}: part of a model directory; give the directory, {folder or '.'}")
    if is_folder(place):
        model = load_cloud_model(place)
        network, weights, chosen = model.network, model.checksum, model.config
        if config.network not in (CloudNetworkConfig(), chosen):
            raise UserError(f"{place.uri}: a model directory, which defines its network itself; remove network.*")
    else:
        (network, weights), chosen = load_published(place, config.network), config.network
    settings = chosen.model_dump_json(exclude_defaults=True)
    by = [f"unet {chosen.encoder} {weights[:16]}"]
    if chosen != CloudNetworkConfig():
        by.append(f"settings {hashlib.blake2b(settings.encode(), digest_size=4).hexdigest()}")
    if config.clear_bias:
        by.append(f"clear bias {config.clear_bias:g}")
    if config.precision != "fp32":
        by.append(config.precision)
    return NetworkDetector(
        network,
        chosen,
        ", ".join(by),
        device="cuda" if config.use_gpu else "cpu",
        precision=config.precision,
        batch_size=config.batch_size,
        clear_bias=config.clear_bias,
    )


def _require_cloud_model(folder: Location) -> None:
    if exists(folder.join(CONFIG_FILE)):
        if exists(folder.join(WEIGHTS_FILE)):
            return
        raise UserError(f"{folder.uri}: no {WEIGHTS_FILE} in this cloud model; copy the model again")
    if exists(folder.join("config.yaml")):
        raise UserError(
            f"{folder.uri}: a RESTORE-DiT model, which fills gaps; cloud masks require a model from "
            "`restore-dit train-clouds`"
        )
    hint = f"; did you mean {folder.uri}/model?" if exists(folder.join("model", CONFIG_FILE)) else ""
    raise UserError(f"{folder.uri}: not the model directory of a cloud-detection network (no {CONFIG_FILE}){hint}")


def _read_config(file: Location) -> CloudNetworkConfig:
    try:
        tree = yaml.safe_load(read_bytes(file))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file.uri}: not YAML: {' '.join(str(error).split())}") from None
    return build(CloudNetworkConfig, tree, file.uri)


def _read_metrics(file: Location) -> dict[str, Any]:
    try:
        metrics = json.loads(read_bytes(file))
    except ValueError as error:
        raise UserError(f"{file.uri}: not JSON ({error}); copy the model again") from None
    if not isinstance(metrics, dict):
        raise UserError(f"{file.uri}: not a mapping of metrics; copy the model again")
    return metrics


def _read_weights(origin: str, content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights by name, and the configuration and checksum in their metadata."""
    try:
        weights = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{origin}: damaged ({' '.join(str(error).split())}); copy the model again") from None
    try:
        metadata = header["__metadata__"]
        network = CloudNetworkConfig.model_validate_json(metadata["network"])
        return weights, {"network": network, "checksum": metadata["checksum"]}
    except (KeyError, ValueError):
        raise UserError(f"{origin}: not weights from `restore-dit train-clouds`; copy the model again") from None
