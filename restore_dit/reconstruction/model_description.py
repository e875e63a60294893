"""What a model directory says of its model, without the model: its configuration and its scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml

from restore_dit.config import RunConfig
from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.config.loading import build
from restore_dit.data.storage import Location, Place, exists, is_folder, locate, read_bytes
from restore_dit.errors import UserError


@dataclass(frozen=True)
class ModelDescription:
    """A model's run, and its metrics at the step of its weights."""

    config: RunConfig
    metrics: dict[str, float]


def locate_model(place: Place) -> Location:
    """Where a model directory lies: the shipped one where only its name is given and no folder bears it."""
    location = locate(place)
    if place == SHIPPED_MODEL and not is_folder(location):
        return locate(Path(str(resources.files("restore_dit.models"))) / SHIPPED_MODEL)
    return location


def describe_model(place: Place) -> ModelDescription:
    """Reads a model directory's small files.

    Raises:
        UserError: no configuration there, or a damaged one.
    """
    folder = locate_model(place)
    metrics = folder.join("metrics.json")
    try:
        scores = json.loads(read_bytes(metrics)) if exists(metrics) else {}
    except ValueError:
        raise UserError(f"{metrics.uri}: damaged; copy the model again") from None
    return ModelDescription(read_config(folder), scores)


def read_config(folder: Location) -> RunConfig:
    """The configuration of a model directory.

    Raises:
        UserError: it is not there, or no configuration.
    """
    place = folder.join("config.yaml")
    try:
        tree = yaml.safe_load(read_bytes(place))
    except yaml.YAMLError as error:
        raise UserError(f"{place.uri}: not YAML: {' '.join(str(error).split())}") from None
    return build(RunConfig, tree, place.uri)
