"""Commands that train, evaluate, apply and import models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from restore_dit.commands.arguments import command, overrides
from restore_dit.commands.dry_run import show
from restore_dit.config import PRESETS, load, shipped
from restore_dit.config.jobs import SHIPPED_MODEL
from restore_dit.errors import UserError
from restore_dit.series import RADAR_CHANNELS, S2_ALL_BANDS, S2_BANDS

if TYPE_CHECKING:
    from restore_dit.commands.arguments import Commands


def add_to(commands: Commands) -> None:
    """`train`, `evaluate`, `reconstruct`, `import-checkpoint`."""
    parser = command(
        commands,
        "train",
        train,
        "Train a model. Ctrl-C saves the state; the same command resumes.",
        "train --config own_site data.store=stores/site name=site",
    )
    parser.add_argument(
        "--config",
        default="default",
        metavar="F",
        help=f"YAML file, or a shipped configuration: {', '.join(shipped())} (default: default)",
    )
    parser.add_argument(
        "--init-from",
        metavar="MODEL",
        help="model directory whose weights initialise the training; `default`: the shipped model",
    )
    overrides(parser)

    parser = command(
        commands,
        "evaluate",
        evaluate,
        "Evaluate a model by a protocol, against baselines, as a table and figures.",
        "evaluate runs/site/model stores/site --protocol paper --output evaluation",
    )
    _model_and(parser, store="tile store")
    parser.add_argument(
        "--protocol", choices=("paper", "missing-frame"), default="paper", help="evaluation protocol (default: paper)"
    )
    parser.add_argument("--output", default="evaluation", help="folder for table and figures (default: evaluation)")
    overrides(parser)

    parser = command(
        commands,
        "reconstruct",
        reconstruct,
        "Fill the gaps of series, and write them as Cloud-Optimized GeoTIFFs or NetCDF.",
        "reconstruct runs/site/model stores/site clear format=netcdf",
    )
    _model_and(parser, input="tile store, or folder of a data cube", output="folder for the results")
    overrides(parser)

    parser = command(
        commands,
        "import-checkpoint",
        import_checkpoint,
        "Convert a published checkpoint (.pth) to a model directory.",
        "import-checkpoint Model_best.pth models/paper --normalisation NORM_S1A_patch.json",
    )
    parser.add_argument("file", help="published checkpoint")
    parser.add_argument("out", help="model directory to write")
    parser.add_argument(
        "--heads", type=int, default=PRESETS["paper"]().model.heads, help="attention heads (default: 4)"
    )
    parser.add_argument(
        "--bands", default=",".join(S2_BANDS), help="the network's bands, in its order (default: all ten)"
    )
    parser.add_argument(
        "--radar", help="the network's radar channels, in its order (default: the first of VV,VH,VV-VH)"
    )
    parser.add_argument("--normalisation", help="NORM_S1A_patch.json that the checkpoint was trained with")
    parser.add_argument("--store", help="tile store from which to compute the radar normalisation instead")


def _model_and(parser: argparse.ArgumentParser, **places: str) -> None:
    """Adds the optional argument `model` and further positional arguments (name → help) after it."""
    parser.add_argument("model", nargs="?", default=SHIPPED_MODEL, help="model directory (default: the shipped model)")
    for name, description in places.items():
        parser.add_argument(name, help=description)
    parser.set_defaults(optional_first=("model", *places), default_first=SHIPPED_MODEL)


def train(given: argparse.Namespace) -> int:
    from jobs.train import run
    from restore_dit.program import console

    changes = list(given.overrides)
    if given.init_from:
        changes.append(f"training.init_from={given.init_from}")
    config = load(given.config, changes)
    return show(config) if given.dry_run else run(config, console())


def evaluate(given: argparse.Namespace) -> int:
    from jobs.evaluate import run
    from restore_dit.config.jobs import EvaluationConfig
    from restore_dit.config.loading import load_section
    from restore_dit.program import console

    config = load_section(
        EvaluationConfig,
        given.overrides,
        model=given.model,
        store=given.store,
        protocol=given.protocol,
        output=given.output,
    )
    return show(config) if given.dry_run else run(config, console())


def reconstruct(given: argparse.Namespace) -> int:
    from jobs.reconstruct import run
    from restore_dit.config.jobs import ReconstructionConfig
    from restore_dit.config.loading import load_section
    from restore_dit.program import console

    config = load_section(
        ReconstructionConfig, given.overrides, model=given.model, input=given.input, output=given.output
    )
    return show(config) if given.dry_run else run(config, console())


def import_checkpoint(given: argparse.Namespace) -> int:
    from restore_dit.data.examples.normalisation import Normalisation, read_published_normalisation
    from restore_dit.model.published import read_published_checkpoint
    from restore_dit.reconstruction.model_directory import save_model

    bands = _names(given.bands, "--bands", S2_ALL_BANDS)
    channels = None if given.radar is None else _names(given.radar, "--radar", RADAR_CHANNELS)
    model, weights = read_published_checkpoint(given.file, heads=given.heads, bands=bands, radar=channels)
    paper = PRESETS["paper"]()
    radar = paper.data.radar if model.radar_channels else None
    config = paper.model_copy(update={"model": model, "data": paper.data.model_copy(update={"radar": radar})})
    normalisation = Normalisation()
    if model.radar_channels and given.store:
        from restore_dit.data.store.tile_store import TileStore
        from restore_dit.training.setup import normalisation_of

        store = TileStore.open(given.store)
        normalisation = normalisation_of(store, config, store.tile_ids)
    elif model.radar_channels and given.normalisation:
        normalisation = read_published_normalisation(given.normalisation, model.radar_channels)
    elif model.radar_channels:
        raise UserError(
            "the checkpoint uses radar: give --normalisation NORM_S1A_patch.json or --store STORE", status=2
        )
    save_model(given.out, config, weights, normalisation, {})
    print(f"{given.out}: {sum(tensor.numel() for tensor in weights.values()) / 1e6:.2f} M parameters")
    return 0


def _names(text: str, option: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names in a comma-separated option. Raises `UserError` for an unknown or repeated one."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in known:
            raise UserError(f"{option} {text}: {name or 'an empty name'} is not one of {', '.join(known)}", status=2)
        if names.count(name) > 1:
            raise UserError(f"{option} {text}: {name} is repeated", status=2)
    return names
