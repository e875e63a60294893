"""Commands that take results to other programs, and models from them."""

from __future__ import annotations

import click

from restore_dit.command_line import command
from restore_dit.config import PRESETS
from restore_dit.errors import UserError
from restore_dit.series import RADAR_CHANNELS, S2_ALL_BANDS, S2_BANDS


@command("export", example="stores/sim series.nc --tile sim-0-000001")
@click.argument("store", help="path or URI of the tile store")
@click.argument("output", help="path or URI of the NetCDF file to write")
@click.option("--tile", metavar="TILE", help="tile id (default: the first)")
def export(store: str, output: str, tile: str | None) -> int:
    """Export one tile of a store as a NetCDF file, which the endpoint accepts."""
    from restore_dit.data.exchange import netcdf
    from restore_dit.data.storage import locate, write_bytes_atomically
    from restore_dit.data.store.tile_store import TileStore

    tiles = TileStore.open(store)
    chosen = tile or next(iter(tiles.tile_ids), "")
    if chosen not in tiles.manifest.tiles:
        raise UserError(f"{store}: no tile {chosen!r}; `restore-dit inspect {store}` lists the tiles")
    series = tiles.load(chosen).series()
    place = locate(output)
    write_bytes_atomically(place, netcdf.encode(series))
    height, width = series.size
    print(f"{place.uri}: tile {chosen}, {len(series.optical)} dates, {height}×{width} pixels")
    return 0


@command("import-checkpoint", example="Model_best.pth models/paper --normalisation NORM_S1A_patch.json")
@click.argument("file", help="published checkpoint")
@click.argument("output", help="path or URI of the model directory to write")
@click.option("--heads", type=int, default=PRESETS["paper"]().model.heads, show_default=True, help="attention heads")
@click.option("--bands", default=",".join(S2_BANDS), show_default=True, help="the network's bands, in its order")
@click.option("--radar", help="the network's radar channels, in its order (default: the first of VV,VH,VV-VH)")
@click.option("--normalisation", metavar="FILE", help="NORM_S1A_patch.json that the checkpoint was trained with")
@click.option("--store", help="tile store from which to compute the radar normalisation instead")
def import_checkpoint(
    file: str, output: str, heads: int, bands: str, radar: str | None, normalisation: str | None, store: str | None
) -> int:
    """Convert a published checkpoint (.pth) to a model directory."""
    from restore_dit.data.examples.normalisation import Normalisation, read_published_normalisation
    from restore_dit.model.published import read_published_checkpoint
    from restore_dit.reconstruction.model_directory import save_model

    band_names = _names(bands, "--bands", S2_ALL_BANDS)
    channels = None if radar is None else _names(radar, "--radar", RADAR_CHANNELS)
    model, weights = read_published_checkpoint(file, heads=heads, bands=band_names, radar=channels)
    paper = PRESETS["paper"]()
    radar_config = paper.data.radar if model.radar_channels else None
    config = paper.model_copy(update={"model": model, "data": paper.data.model_copy(update={"radar": radar_config})})
    statistics = Normalisation()
    if model.radar_channels and store:
        from restore_dit.data.store.tile_store import TileStore
        from restore_dit.training.setup import normalisation_of

        tiles = TileStore.open(store)
        statistics = normalisation_of(tiles, config, tiles.tile_ids)
    elif model.radar_channels and normalisation:
        statistics = read_published_normalisation(normalisation, model.radar_channels)
    elif model.radar_channels:
        raise UserError(
            "the checkpoint uses radar: give --normalisation NORM_S1A_patch.json or --store STORE", status=2
        )
    save_model(output, config, weights, statistics, {})
    print(f"{output}: {sum(tensor.numel() for tensor in weights.values()) / 1e6:.2f} M parameters")
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
