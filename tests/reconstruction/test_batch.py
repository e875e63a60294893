"""Tile after tile, with the options of the job; what is whole is not made again."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import xarray
import yaml
from rich.console import Console

from jobs import reconstruct
from restore_dit.client import LocalClient
from restore_dit.config.jobs import ReconstructionConfig, SamplingConfig
from restore_dit.data.exchange import netcdf
from restore_dit.data.runner import run
from restore_dit.data.store.tile_store import TileStore, TileStoreWriter
from restore_dit.reconstruction import completion
from restore_dit.reconstruction.batch import plan_reconstruction
from restore_dit.reconstruction.completion import Completion
from restore_dit.reconstruction.gap_free import fill_gaps
from restore_dit.reconstruction.model_directory import Model, save_model
from restore_dit.reconstruction.sampling import SamplingOptions
from restore_dit.series import NEVER_OBSERVED, NO_DATA, PROVENANCE, SAMPLES, SUSPECT, Acquisitions, Provenance
from tests.data.cubes.test_damaged import MAPPING
from tests.data.cubes.test_damaged import write as write_site
from tests.messages import assert_names, refused


@pytest.fixture
def job(small_model: Model, small_store: TileStore, tmp_path: Path) -> ReconstructionConfig:
    """Two tiles of the small store."""
    weights = small_model.denoiser.state_dict()
    save_model(tmp_path / "model", small_model.config, weights, small_model.normalisation, {})
    return ReconstructionConfig(
        model=str(tmp_path / "model"),
        input=small_store.uri,
        output=str(tmp_path / "clear"),
        tiles=small_store.tile_ids[:2],
        figures=False,
    )


def todo(job: ReconstructionConfig, **changes: object) -> int:
    return len(plan_reconstruction(job.model_copy(update=changes)).todo)


def test_masks_are_widened_as_the_job_says_and_the_files_say_so(
    job: ReconstructionConfig, small_model: Model, small_store: TileStore
) -> None:
    job = job.model_copy(update={"mask_dilation": 2})
    first = job.tiles[0]
    run(plan_reconstruction(job.model_copy(update={"tiles": (first,)})))
    series = small_store.load(first).series()
    expected = fill_gaps(small_model, series, SamplingOptions(mask_dilation=2))[1]
    assert expected.sum() > series.missing().sum()
    for index, date in enumerate(series.optical.dates):
        name = f"{first}_{date.astype('datetime64[D]')}_gap.tif"
        with rasterio.open(Path(job.output, first, name)) as file:
            assert file.tags()["MASK_DILATION"] == "2"
            np.testing.assert_array_equal(file.read(1), expected[index])


@pytest.mark.slow
def test_a_job_writes_possible_series_and_indices(
    job: ReconstructionConfig, small_model: Model, small_store: TileStore
):
    first = job.tiles[0]
    wanted = {"tiles": (first,), "sampling": SamplingConfig(samples=2, seed=3), "indices": ("ndvi",)}
    run(plan_reconstruction(job.model_copy(update=wanted)))
    run(plan_reconstruction(job.model_copy(update=wanted | {"format": "netcdf"})))
    expected = fill_gaps(small_model, small_store.load(first).series(), SamplingOptions(samples=2, seed=3)).series
    drawn = netcdf.decode(Path(job.output, f"{first}.nc").read_bytes(), "result").layers[SAMPLES]
    np.testing.assert_array_equal(drawn, expected.layers[SAMPLES])
    date = expected.optical.dates[0].astype("datetime64[D]")
    with rasterio.open(Path(job.output, first, f"{first}_{date}_sample2.tif")) as file:
        assert file.tags()["SAMPLES"] == "2"
        np.testing.assert_array_equal(file.read(), drawn[0, 1])
    with rasterio.open(Path(job.output, first, f"{first}_{date}_ndvi.tif")) as file:
        assert file.descriptions == ("NDVI", "NDVI_uncertainty")
    assert todo(job, **wanted | {"format": "netcdf"}) == 0
    assert todo(job, **wanted | {"format": "netcdf", "sampling": SamplingConfig(samples=3, seed=3)}) == 1


@pytest.mark.slow
def test_only_what_is_whole_and_would_be_the_same_is_left_out(
    job: ReconstructionConfig, small_model: Model, small_store: TileStore, tmp_path: Path
) -> None:
    first, second = job.tiles

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan_reconstruction(job), on_outcome=stop)
    assert plan_reconstruction(job).todo == [second]
    assert list(run(plan_reconstruction(job)).results) == [second]
    assert todo(job) == 0
    assert todo(job, workers=4, sampling=SamplingConfig(batch_size=1)) == 0  # they decide about nothing
    assert todo(job, resume=False) == 2
    assert todo(job, sampling=SamplingConfig(seed=1)) == 2
    assert todo(job, mask_dilation=1) == 2
    assert todo(job, format="netcdf") == 2

    next(Path(job.output, first).glob("*_gap.tif")).unlink()
    assert plan_reconstruction(job).todo == [first]
    Path(job.output, f"{second}.json").write_text("{")
    assert todo(job) == 2

    run(plan_reconstruction(job))
    weights = {name: value.clone() for name, value in small_model.denoiser.state_dict().items()}
    next(value for value in weights.values() if value.dtype == torch.float32).view(-1)[0] += 1
    save_model(tmp_path / "model", small_model.config, weights, small_model.normalisation, {})
    assert todo(job) == 2


def test_a_tile_that_cannot_be_read_is_named_and_the_others_go_on(
    job: ReconstructionConfig, small_store: TileStore, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(small_store.uri, tmp_path / "store"))
    (store / "tiles" / f"{job.tiles[0]}.parquet").unlink()
    report = run(plan_reconstruction(job.model_copy(update={"input": str(store)})))
    assert (list(report.failed), list(report.results)) == ([job.tiles[0]], [job.tiles[1]])
    (reason,) = report.failed.values()
    assert f"{job.tiles[0]}.parquet" in reason
    assert "\n" not in reason


@pytest.mark.parametrize("format_", ["cog", "netcdf"])
def test_a_tile_of_which_nothing_is_observed_is_counted_and_unobserved_pixels_are_marked(
    job: ReconstructionConfig, small_store: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    series = small_store.load(job.tiles[0]).series()
    optical = series.optical.select(slice(3))
    values = np.where(optical.values == NO_DATA, np.int16(500), optical.values)
    optical = Acquisitions(values, optical.dates, optical.bands)
    writer = TileStoreWriter(tmp_path / "short", source="test")
    for name, hidden in (("allcloud", 24), ("alwaysleft", 11), ("clear", 0)):
        clouds = np.zeros((3, 24, 24), np.uint8)
        clouds[:, :, :hidden] = 1
        writer.add(replace(series, tile_id=name, optical=optical, clouds=clouds, layers={}))
    writer.commit()
    short = {"input": writer.location.uri, "tiles": (), "format": format_, "mask_dilation": 0}
    assert reconstruct.run(job.model_copy(update=short), Console(width=40)) == 1
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if "allcloud" in line] == said.err.splitlines()
    lines = said.out.splitlines()
    assert ["264 pixels" in line for line in lines if line.startswith(("alwaysleft", "clear"))] == [True, False]
    assert "1 of 3 tiles" in lines[-1]

    expected = np.zeros((24, 24), np.uint8)
    expected[:, :11] = 1
    assert not list(Path(job.output).glob("allcloud*"))
    assert Completion.model_validate_json(Path(job.output, "alwaysleft.json").read_bytes()).never_observed == 264
    if format_ == "cog":
        assert len(list(Path(job.output, "alwaysleft").glob("*_gap.tif"))) == 3
        for path in Path(job.output, "alwaysleft").glob("*_gap.tif"):
            with rasterio.open(path) as file:
                assert file.descriptions == ("gap_mask", NEVER_OBSERVED, PROVENANCE, SUSPECT)
                assert file.tags()["NEVER_OBSERVED"] == "264"
                np.testing.assert_array_equal(file.read(2), expected)
                np.testing.assert_array_equal(file.read(3), np.where(expected, Provenance.UNKNOWN, Provenance.OBSERVED))
    else:
        with xarray.open_dataset(Path(job.output, "alwaysleft.nc")) as file:
            assert file[NEVER_OBSERVED].dims == ("y", "x")
            np.testing.assert_array_equal(file[NEVER_OBSERVED], expected)
            assert file[PROVENANCE].attrs["flag_meanings"].split()[Provenance.UNKNOWN] == "unknown"
            np.testing.assert_array_equal(file[PROVENANCE][0], expected * Provenance.UNKNOWN)
            assert file.attrs["NEVER_OBSERVED"] == "264"
        content = Path(job.output, "clear.nc").read_bytes()
        assert not netcdf.decode(content, "clear.nc").layers[NEVER_OBSERVED].any()


@pytest.mark.slow
def test_suspect_pixels_are_written_counted_and_replaced_alike_at_every_door(
    job: ReconstructionConfig, small_store: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = small_store.load(job.tiles[0]).series()
    clear = ~series.missing()
    frame = int(clear[2:-2].sum(axis=(1, 2)).argmax()) + 2
    values = series.optical.values.copy()
    values[frame, :, 4:16, 4:16] = 6000
    writer = TileStoreWriter(tmp_path / "cloudy", source="test")
    cloudy = replace(series, tile_id="cloudy", optical=Acquisitions(values, series.optical.dates, series.optical.bands))
    writer.add(cloudy)
    writer.commit()
    job = job.model_copy(update={"input": writer.location.uri, "tiles": ()})
    for replaced in (False, True):
        expected = LocalClient(job.model).reconstruct(cloudy, replace_suspect=replaced)
        share = expected.suspect.sum() / (~expected.gap_mask | expected.suspect).sum()
        assert expected.suspect[frame, 5:15, 5:15].mean() > 0.9
        for format_ in ("cog", "netcdf"):
            sampling = SamplingConfig(replace_suspect=replaced)
            one = job.model_copy(
                update={"format": format_, "sampling": sampling, "output": str(tmp_path / format_ / str(replaced))}
            )
            assert reconstruct.run(one, Console(width=200)) == 0
            line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cloudy"))
            assert_names(line, f"{share:.1%}", "suspect")
            assert ("replaced" in line) is replaced
            assert todo(one) == 0
            assert todo(one, sampling=SamplingConfig(replace_suspect=not replaced)) == 1
            if format_ == "netcdf":
                with xarray.open_dataset(Path(one.output, "cloudy.nc"), mask_and_scale=False) as file:
                    found, gaps, tags = file[SUSPECT].values, file["gap_mask"].values, file.attrs
                    bands = np.stack([file[band].values for band in expected.series.optical.bands], axis=1)
                    assert file[SUSPECT].dtype == np.uint8
                    assert file[SUSPECT].attrs["flag_meanings"].split() == ["not_suspect", "suspect"]
                np.testing.assert_array_equal(bands, expected.series.optical.values)
                content = Path(one.output, "cloudy.nc").read_bytes()
                np.testing.assert_array_equal(netcdf.decode(content, "cloudy.nc").layers[SUSPECT], expected.suspect)
            else:
                masks = []
                for path in sorted(Path(one.output, "cloudy").glob("*_gap.tif")):
                    with rasterio.open(path) as file:
                        masks.append(file.read([1, 4]))
                        tags = file.tags()
                gaps, found = np.stack(masks, axis=1)
            np.testing.assert_array_equal(found, expected.suspect)
            np.testing.assert_array_equal(gaps, expected.gap_mask)
            assert tags["SUSPECT_SHARE"] == f"{share:.4f}"
            assert tags["SUSPECT_REPLACED"] == ("yes" if replaced else "no")


def test_every_cube_of_a_folder_is_an_input_of_its_own(job: ReconstructionConfig, tmp_path: Path) -> None:
    """Their bands are too few for the model, which says so of each."""
    for name in ("a", "b"):
        write_site(tmp_path / "cubes" / name)
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(MAPPING.model_dump(mode="json")))
    cubes = {"input": str(tmp_path / "cubes"), "mapping": str(tmp_path / "mapping.yaml"), "tiles": ()}
    failed = run(plan_reconstruction(job.model_copy(update=cubes))).failed
    assert list(failed) == ["a", "b"]
    for reason in failed.values():
        assert_names(reason, "B02")
    with refused("site c", "a, b"):
        plan_reconstruction(job.model_copy(update={**cubes, "tiles": ("c",)}))


def test_results_of_other_code_are_not_taken_as_done(small_model, tmp_path, monkeypatch):
    config = ReconstructionConfig(input="in", output="out")
    package = tmp_path / "restore_dit"
    shutil.copytree(completion._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))

    def key() -> str:
        completion._code.cache_clear()
        return completion.run_key(small_model, config, SamplingOptions())

    here = key()
    monkeypatch.setattr(completion, "_PACKAGE", package)
    assert key() == here
    rule = package / "data" / "examples" / "dilation.py"
    rule.write_text(rule.read_text() + "\n# another rule\n")
    assert key() != here
    completion._code.cache_clear()


def test_regular_dates_are_written_and_another_step_is_another_result(job: ReconstructionConfig) -> None:
    job = job.model_copy(update={"every": "20", "format": "netcdf", "tiles": job.tiles[:1], "figures": True})
    assert reconstruct.run(job, Console(width=40)) == 0
    with xarray.open_dataset(Path(job.output, f"{job.tiles[0]}.nc")) as file:
        days = file["time"].values.astype("datetime64[D]")
        assert set(np.diff(days).astype(int)) == {20}
        observed = (file[PROVENANCE] == Provenance.OBSERVED).mean(("y", "x"))
        np.testing.assert_array_equal(file["gap_mask"], file[PROVENANCE] != Provenance.OBSERVED)
    assert (observed == 0).any()
    assert Path(job.output, f"{job.tiles[0]}.png").stat().st_size > 1000
    assert todo(job) == 0
    assert todo(job, every="10") == 1
    assert todo(job, every="", dates=(str(days[0]),)) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"every": "week"}, {"dates": ("2019-02-30",)}, {"dates": ("2019-01-01",), "every": "5"}, {"indices": ("evi",)}],
)
def test_what_makes_no_sense_for_any_tile_ends_the_job_before_its_first_one(
    job: ReconstructionConfig, wrong: dict
) -> None:
    with refused(*(next(iter(wrong)),)):
        plan_reconstruction(job.model_copy(update=wrong))
