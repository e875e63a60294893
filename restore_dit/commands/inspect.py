"""Inspect a tile store, or the directory of a reconstruction or cloud-detection model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from restore_dit.command_line import SettingsCommand
from restore_dit.config import RunConfig, TargetConfig, dump, load, shipped
from restore_dit.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import nn

    from restore_dit.data.store.tile_store import TileStore

TILES_OF_FRAMES = 4
"""Number of tiles whose frames are drawn by default."""


@dataclass(frozen=True)
class Request:
    """The arguments and options of the command."""

    place: str
    json: bool
    verify: bool
    deep: bool
    contact_sheet: str | None
    frames: str | None
    tiles: str | None
    config: str
    overrides: Sequence[str]


def _inspect(**options: Any) -> int:
    from restore_dit.data.storage import exists
    from restore_dit.data.store.tile_store import TileStore
    from restore_dit.inspection.description import describe_store
    from restore_dit.inspection.description_text import description_text
    from restore_dit.inspection.target_decisions import describe_targets
    from restore_dit.reconstruction.model_description import locate_model

    given = Request(**options)
    for name, show in (("cloud_network.yaml", _inspect_cloud_model), ("model.safetensors", _inspect_model)):
        if exists(locate_model(given.place).join(name)):
            _refuse_options_of_stores(given)
            return show(given)
    _check_options(given)
    targets = load(given.config, given.overrides).data.targets
    store = TileStore.open(given.place)
    description = replace(describe_store(store), targets=describe_targets(store, targets))
    print(json.dumps(description.as_json(), indent=1) if given.json else description_text(description), flush=True)
    if given.contact_sheet is not None:
        _draw_contact_sheet(given, store)
    if given.frames is not None:
        _draw_frames(given, store, targets)
    return _verify(given, store) if given.verify else 0


inspect = SettingsCommand(
    "inspect",
    RunConfig,
    defaults=lambda: load("default"),
    section="data.targets.",
    callback=_inspect,
    help="Describe a tile store or model directory, verify it, or draw it.",
    example="stores/site data.targets.most_haze=0.05 --frames",
    params=[
        click.Argument(["place"], metavar="STORE|MODEL", help="path or URI of a tile store or model directory"),
        click.Option(["--json"], is_flag=True, help="print JSON"),
        click.Option(["--verify"], is_flag=True, help="check every file of a tile store against its checksum"),
        click.Option(["--deep"], is_flag=True, help="with --verify: also decode every acquisition"),
        click.Option(
            ["--contact-sheet"],
            is_flag=False,
            flag_value="",
            metavar="[FILE.png]",
            help="draw up to 12 tiles of a store (default file: the store's name, in the working directory)",
        ),
        click.Option(
            ["--frames"],
            is_flag=False,
            flag_value="",
            metavar="[FILE.png]",
            help="draw every acquisition of up to 4 tiles: whether it may be a training target, and why not (default "
            "file: the store's name with _frames, in the working directory)",
        ),
        click.Option(["--tiles"], metavar="A,B", help="with --contact-sheet or --frames: the tiles to draw"),
        click.Option(
            ["--config"],
            default="default",
            metavar="FILE",
            help="YAML file, or a shipped configuration, whose data.targets selects the targets: "
            f"{', '.join(shipped())} (default: default)",
        ),
    ],
)


def _check_options(given: Request) -> None:
    if given.deep and not given.verify:
        raise UserError("--deep requires --verify", status=2)
    if given.tiles and given.contact_sheet is None and given.frames is None:
        raise UserError("--tiles requires --contact-sheet or --frames", status=2)
    for option in ("contact_sheet", "frames"):
        file = getattr(given, option)
        if file and not file.endswith(".png"):
            raise UserError(
                f"--{option.replace('_', '-')} {file}: the file name must end in .png; give the store and key=value "
                "before this option",
                status=2,
            )


def _refuse_options_of_stores(given: Request) -> None:
    for option in ("verify", "deep", "contact_sheet", "frames", "tiles"):
        if getattr(given, option) not in (None, False):
            name = option.replace("_", "-")
            raise UserError(f"{given.place}: a model directory, but --{name} applies only to tile stores", status=2)
    if given.overrides:
        raise UserError(
            f"{given.place}: a model directory, but {given.overrides[0]} applies only to tile stores", status=2
        )


def _inspect_model(given: Request) -> int:
    from restore_dit.reconstruction.model_directory import load_model

    model = load_model(given.place)
    return _show_model(given, model.config, model.denoiser, model.metrics)


def _inspect_cloud_model(given: Request) -> int:
    from restore_dit.clouds.model_directory import load_cloud_model

    model = load_cloud_model(given.place)
    return _show_model(given, model.config, model.network, model.metrics)


def _show_model(given: Request, config: BaseModel, network: nn.Module, metrics: dict[str, Any]) -> int:
    parameters = sum(p.numel() for p in network.parameters())
    if given.json:
        tree = {"config": config.model_dump(mode="json"), "parameters": parameters, "metrics": metrics}
        print(json.dumps(tree, indent=1))
        return 0
    print(dump(config), end="")
    print(f"parameters: {parameters}")
    for name, value in metrics.items():
        print(f"{name}: {value:.6g}" if isinstance(value, float) else f"{name}: {value}")
    return 0


def _draw_contact_sheet(given: Request, store: TileStore) -> None:
    from restore_dit.data.storage import write_bytes_atomically
    from restore_dit.inspection.contact_sheet import contact_sheet

    file = given.contact_sheet or f"{store.location.name}.png"
    write_bytes_atomically(file, contact_sheet(store, given.tiles.split(",") if given.tiles else None))
    print(f"contact sheet: {file}", file=sys.stderr)


def _draw_frames(given: Request, store: TileStore, targets: TargetConfig) -> None:
    from restore_dit.data.storage import write_bytes_atomically
    from restore_dit.inspection.frame_picture import frame_picture
    from restore_dit.inspection.target_decisions import frame_strip

    file = given.frames or f"{store.location.name}_frames.png"
    chosen = given.tiles.split(",") if given.tiles else _tiles_with_frames(store, targets)
    write_bytes_atomically(file, frame_picture([frame_strip(store, tile, targets) for tile in chosen], targets))
    print(f"frames: {file}", file=sys.stderr)


def _tiles_with_frames(store: TileStore, targets: TargetConfig) -> list[str]:
    """A few evenly spaced tiles that have acquisitions and the masks needed to select targets."""
    from restore_dit.inspection.description import evenly

    records = store.manifest.tiles
    with_frames = [tile_id for tile_id in store.tile_ids if records[tile_id].optical.frames]
    if not with_frames:
        raise UserError(f"{store.uri}: none of {len(records)} tiles has an acquisition to draw")
    decided = [tile for tile in with_frames if targets.by == "source_list" or records[tile].clouds is not None]
    if not decided:
        raise UserError(
            f"{store.uri}: no tile with acquisitions has cloud masks, which select the targets; detect clouds first"
        )
    return evenly(decided, TILES_OF_FRAMES)


def _verify(given: Request, store: TileStore) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from restore_dit.inspection.verification import verify_store

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying", total=None)
        problems = verify_store(
            store, lambda done, total: progress.update(task, completed=done, total=total), deep=given.deep
        )
    for problem in problems:
        print(f"restore-dit inspect: {problem}", file=sys.stderr)
    print(
        f"verified {len(store.tile_ids)} tiles: {len(problems)} damaged, missing or unknown files",
        file=sys.stderr if given.json else sys.stdout,
    )
    return 1 if problems else 0
