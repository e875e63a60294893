"""Models: train, evaluate, reconstruct, import."""

from __future__ import annotations

import argparse

from restore_dit.commands.dry_run import show
from restore_dit.config import PRESETS, load
from restore_dit.errors import UserError


def train(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.train import run

    overrides = list(given.overrides)
    if given.init_from:
        overrides.append(f"training.init_from={given.init_from}")
    config = load(given.config, overrides)
    return show(config) if given.dry_run else run(config, console())


def evaluate(given: argparse.Namespace) -> int:
    from jobs.entry import console
    from jobs.evaluate import run
    from restore_dit.config.jobs import EvaluationConfig
    from restore_dit.config.loading import load_section

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
    from jobs.entry import console
    from jobs.reconstruct import run
    from restore_dit.config.jobs import ReconstructionConfig
    from restore_dit.config.loading import load_section

    config = load_section(
        ReconstructionConfig, given.overrides, model=given.model, input=given.input, output=given.output
    )
    return show(config) if given.dry_run else run(config, console())


def import_checkpoint(given: argparse.Namespace) -> int:
    from restore_dit.data.examples.normalisation import Normalisation, read_published_normalisation
    from restore_dit.model.published import read_published_checkpoint
    from restore_dit.reconstruction.model_directory import save_model

    model, weights = read_published_checkpoint(given.file, heads=given.heads)
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
            "the checkpoint takes radar: give --normalisation NORM_S1A_patch.json or --store STORE", status=2
        )
    save_model(given.out, config, weights, normalisation, {})
    print(f"{given.out}: {sum(tensor.numel() for tensor in weights.values()) / 1e6:.2f} M parameters")
    return 0
