"""Configuration and scores in a model directory, read without loading the weights."""

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
    """The configuration of a model's training run, and its validation metrics at the step of the saved weights."""

    config: RunConfig
    metrics: dict[str, float]


def locate_model(place: Place) -> Location:
    """The location of a model directory. The name of the shipped model refers to it unless a folder has that name."""
    location = locate(place)
    if place == SHIPPED_MODEL and not is_folder(location):
        return locate(Path(str(resources.files("restore_dit.models"))) / SHIPPED_MODEL)
    return location


def describe_model(place: Place) -> ModelDescription:
    """Reads the configuration and metrics of a model directory.

    Raises:
        UserError: the configuration is missing, or one of the files is damaged.
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
        UserError: it is missing or invalid.
    """
    place = folder.join("config.yaml")
    try:
        tree = yaml.safe_load(read_bytes(place))
    except yaml.YAMLError as error:
        raise UserError(f"{place.uri}: not YAML: {' '.join(str(error).split())}") from None
    return build(RunConfig, tree, place.uri)
