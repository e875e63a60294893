"""The command line as a user meets it."""

import json
import re

import netCDF4
import pytest
import torch
import yaml

from restore_dit.cli import main
from restore_dit.reconstruction.model_directory import load_model
from tests.messages import assert_names


def run(capsys, *words: object) -> tuple[int, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_simulate_inspect_verify_and_go_on(capsys, tmp_path):
    store = tmp_path / "store"
    size = ("height=16", "width=20", "days=60")
    status, out, _ = run(capsys, "simulate", store, "--tiles", 2, *size)
    assert (status, out.splitlines()[-1]) == (0, f"{store}: 2 tiles, 0 quarantined")
    status, out, _ = run(capsys, "simulate", store, *size, "--tiles", 3)
    assert (status, re.findall(r"\d+", out.splitlines()[0])) == (0, ["1", "2"])
    assert out.splitlines()[-1] == f"{store}: 3 tiles, 0 quarantined"
    status, out, _ = run(capsys, "inspect", store, "--verify")
    assert status == 0
    assert "16×20" in out
    assert_names(out, "verified 3", "0 damaged")
    tile = store / "tiles" / "sim-0-000001.parquet"
    content = bytearray(tile.read_bytes())
    content[len(content) // 2] ^= 1
    tile.write_bytes(content)
    status, out, err = run(capsys, "inspect", store, "--verify")
    assert status == 1
    assert "sim-0-000001" in err
    assert "1 damaged" in out


@pytest.mark.parametrize(
    ("words", "status", "facts"),
    [
        (("train", "--config", "tiny"), 2, ["data.store"]),
        (("train", "--config", "tinny"), 2, ["tinny", "tiny"]),
        (("train", "--config", "tiny", "data.stor=x"), 2, ["'data.stor'", "'store'"]),
        (("train", "--config", "tiny", "data.store=/nowhere"), 1, ["/nowhere", "tile store"]),
        (("simulate", "out", "--tilez", "3"), 2, ["--tilez", "--tiles"]),
        (("simulate", "out", "hight=3"), 2, ["'hight'", "'height'"]),
        (("simulate", "out", "--tiles", "0"), 2, ["tiles", 1]),
        (("inspect", "/nowhere"), 1, ["/nowhere", "tile store"]),
        (("evaluate", "/nowhere", "/nowhere"), 1, ["/nowhere", "model.safetensors"]),
        (("reconstruct", "/nowhere", "/nowhere", "out"), 1, ["/nowhere", "model.safetensors"]),
        (("import-checkpoint", "/nowhere.pth", "out"), 1, ["/nowhere.pth"]),
        (("ingest-cubes", "/nowhere", "out"), 1, ["/nowhere"]),
        (
            ("tune", "--config", "smal"),
            2,
            ["smal", "population, sampling-only, schedules, small"],
        ),
        (("tune", "reprot", "sweeps/x"), 2, ["reprot", "restore-dit tune --help"]),
        (("sweep-report", "/nowhere"), 1, ["/nowhere", "sweep.yaml"]),
        (("tune", "search.trials=2"), 2, ["run.data.store"]),
        (("tune", "run.data.store=/nowhere"), 1, ["/nowhere", "tile store"]),
        (("tune", "--config", "sampling-only"), 2, ["model=URI"]),
        (("tune", "--config", "sampling-only", "model=/nowhere"), 1, ["/nowhere", "model.safetensors"]),
        (("inspect",), 2, ["STORE|MODEL"]),
        (("explode",), 2, ["'explode'"]),
    ],
)
def test_mistakes_end_in_one_line_and_a_status(capsys, tmp_path, monkeypatch, words, status, facts):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, *words)
    assert found == status
    assert_names(err, *facts)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_what_would_run(capsys):
    status, out, _ = run(capsys, "train", "--config", "tiny", "--dry-run", "training.epochs=7")
    assert status == 0
    assert yaml.safe_load(out)["training"]["epochs"] == 7
    status, out, _ = run(capsys, "evaluate", "m", "s", "--dry-run", "sampling.steps=3")
    assert yaml.safe_load(out)["sampling"]["steps"] == 3


@pytest.mark.parametrize(
    ("words", "model", "places"),
    [
        (("evaluate", "s"), "default", {"store": "s"}),
        (("evaluate", "s", "sampling.steps=3"), "default", {"store": "s"}),
        (("evaluate", "m", "s", "sampling.steps=3"), "m", {"store": "s"}),
        (("reconstruct", "in", "out"), "default", {"input": "in", "output": "out"}),
        (("reconstruct", "in", "out", "sampling.steps=3", "tiles=[a]"), "default", {"input": "in", "output": "out"}),
        (("reconstruct", "m", "in", "out", "sampling.steps=3"), "m", {"input": "in", "output": "out"}),
    ],
)
def test_a_model_may_be_left_out(capsys, words, model, places):
    status, out, _ = run(capsys, *words, "--dry-run")
    assert status == 0
    found = yaml.safe_load(out)
    assert found["model"] == model
    assert {name: found[name] for name in places} == places
    assert found["sampling"]["steps"] == (3 if "sampling.steps=3" in words else None)


def test_a_published_checkpoint_becomes_a_model(capsys, tmp_path, reference):
    import numpy as np

    fixture = np.load(reference / "sdt_default.npz")
    weights = {
        f"module.{k.removeprefix('weight/')}": torch.from_numpy(fixture[k])
        for k in fixture.files
        if k.startswith("weight/")
    }
    torch.save({"model_state_dict": weights}, tmp_path / "published.pth")
    assert run(capsys, "import-checkpoint", tmp_path / "published.pth", tmp_path / "m")[0] == 2
    norm = tmp_path / "NORM_S1A_patch.json"
    norm.write_text(json.dumps({f"Fold_{i}": {"mean": [-11.0 - i, -18, 7], "std": [3, 3, 2]} for i in range(1, 6)}))
    status, _, err = run(
        capsys, "import-checkpoint", tmp_path / "published.pth", tmp_path / "m", "--normalisation", norm
    )
    assert status == 0, err
    model = load_model(tmp_path / "m")
    assert model.config.model.depth == 2
    assert model.normalisation.radar_mean == pytest.approx((-14, -18, 7))
    assert run(capsys, "inspect", tmp_path / "m")[0] == 0


def test_a_published_checkpoint_of_other_bands_fills_a_series_of_those_bands(capsys, tmp_path, small_store, small_run):
    from restore_dit.model.denoiser import Denoiser
    from restore_dit.model.published import published_names

    network = small_run.model.model_copy(
        update={
            "bands": ("B02", "B03", "B04", "B08"),
            "radar_channels": ("VH", "VV-VH"),
            "radar_attention": "paired",
            "gap_channel": False,
            "anchor": "none",
        }
    )
    torch.manual_seed(0)
    published = {}
    for name, value in Denoiser(network).state_dict().items():
        parts = published_names(name)
        for part, rows in zip(parts, value.chunk(len(parts)), strict=True):
            patches = part.endswith("embedder.proj.weight")
            published[part] = rows.unflatten(1, (-1, 4, 4)) if patches else rows
    torch.save(published, tmp_path / "published.pth")
    norm = tmp_path / "norm.json"
    norm.write_text(json.dumps({f"Fold_{i}": {"mean": [-11, -18, 7 + i], "std": [3, 4, 2]} for i in (1, 3)}))
    given = ("import-checkpoint", tmp_path / "published.pth", tmp_path / "m", "--normalisation", norm, "--heads", 2)

    for options, says in (
        ((), "10"),
        (("--bands", "B02,B03,B04"), "4 bands"),
        (("--bands", "B02,B03,B04,B8"), "B8 "),
        (("--bands", "B02,B03,B04,B04"), "B04"),
        (("--bands", "B02,B03,B04,B08", "--radar", "VV"), "2 radar channels"),
    ):
        status, _, err = run(capsys, *given, *options)
        assert (status != 0, says in err, err.count("\n")) == (True, True, 1), err

    status, _, err = run(capsys, *given, "--bands", "B02,B03,B04,B08", "--radar", "VH,VV-VH")
    assert status == 0, err
    model = load_model(tmp_path / "m")
    assert (model.config.model.bands, model.config.model.radar_channels) == (network.bands, network.radar_channels)
    assert (model.normalisation.radar_mean, model.normalisation.radar_std) == ((-18, 9), (4, 2))
    tile = small_store.tile_ids[0]
    status, _, err = run(
        capsys, "reconstruct", tmp_path / "m", small_store.uri, tmp_path / "clear", f"tiles=[{tile}]", "format=netcdf"
    )
    assert status == 0, err
    series = small_store.load(tile).series()
    with netCDF4.Dataset(tmp_path / "clear" / f"{tile}.nc") as file:
        file.set_auto_maskandscale(False)
        gap_mask = file["gap_mask"][...] == 1
        assert [name for name in file.variables if name.startswith("B")] == list(network.bands)
        for band in network.bands:
            observed = series.optical.values[:, series.optical.bands.index(band)]
            assert (file[band][...][~gap_mask] == observed[~gap_mask]).all()
            assert (file[band][...] >= 0).all()
    assert gap_mask.any()


def test_reconstruct_writes_rasters_and_a_picture(capsys, tmp_path, small_store, small_run):
    from restore_dit.model.denoiser import Denoiser
    from restore_dit.reconstruction.model_directory import save_model
    from restore_dit.training.setup import set_up

    save_model(tmp_path / "m", small_run, Denoiser(small_run.model).state_dict(), set_up(small_run).normalisation, {})
    tile = small_store.tile_ids[0]
    status, _, err = run(capsys, "reconstruct", tmp_path / "m", small_store.uri, tmp_path / "clear", f"tiles=[{tile}]")
    assert status == 0, err
    images = sorted(path.name for path in (tmp_path / "clear" / tile).iterdir())
    dates = len(small_store.load(tile).optical.dates)
    assert len(images) == 2 * dates
    assert (tmp_path / "clear" / f"{tile}.png").stat().st_size > 10_000
    status, _, err = run(
        capsys, "reconstruct", tmp_path / "m", small_store.uri, tmp_path / "cube", f"tiles=[{tile}]", "format=netcdf"
    )
    assert status == 0, err
    assert (tmp_path / "cube" / f"{tile}.nc").exists()
    assert run(capsys, "reconstruct", tmp_path / "m", small_store.uri, tmp_path / "x", "tiles=[nowhere]")[0] == 1
