"""Quality of the gap filling: sites × protocols × methods.

`python -m benchmarks.quality MODEL … --trees --output quality` scores all baselines, the given model directories and
gradient boosting on the sites in `--data` and on simulated tiles, and prints a table and, as the last line, JSON. Both
are also written to `--output`, with a figure. It is not part of `make bench`: the whole run takes an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.quality.document import Document, to_json, to_markdown
from benchmarks.quality.picture import draw
from benchmarks.quality.sites import SITES, Site, prepare
from benchmarks.quality.table import PROTOCOLS, TREES, Row, scores_of
from restore_dit.config import DataConfig, RadarConfig
from restore_dit.config.jobs import EvaluationConfig
from restore_dit.data.examples.cutting import BOTH_TRACKS
from restore_dit.data.examples.maker import ExampleMaker
from restore_dit.data.loader import tile_reader
from restore_dit.errors import UserError
from restore_dit.evaluation.baselines import BASELINES
from restore_dit.evaluation.evaluate import seen_in_training, summarise
from restore_dit.evaluation.protocols import baseline_methods, model_method, score_tile
from restore_dit.reconstruction.model_directory import Model, load_model
from restore_dit.reconstruction.sampling import SamplingOptions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Default folder of the sites' files, beside the checkout."""

TREES_SEED = 77_001


def main() -> int:
    """Prepares the sites, scores all methods, and prints and writes the results."""
    given = arguments()
    notes = [f"`missing-frame`: at most {given.frames} hidden frames a site"]
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = named(given.models)
        models = {name: load_model(place) for name, place in places.items()}
        sites = []
        for name in given.sites:
            say(f"{name}: tiles and masks")
            sites.append(prepare(name, given.data, folder, given.targets))
        if given.trees:
            from benchmarks.boosted_trees import fit_trees

            say(f"fitting trees to {given.trees} simulated tiles")
            fitted = fit_trees(folder, given.trees, TREES_SEED)
            models |= {TREES: fitted.model}
            notes.append(
                f"{TREES}: fitted in {fitted.seconds:.0f} s to {fitted.values} hidden pixel-dates of {fitted.tiles} "
                "simulated tiles"
            )
        notes += [note for site in sites for note in seen(site, models)]
        rows = [score(site, protocol, models, given.frames) for protocol in given.protocols for site in sites]
    document = Document(sites, rows, places, given.targets, notes)
    text, line = to_markdown(document), json.dumps(to_json(document), ensure_ascii=False, allow_nan=False)
    print(text)
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "quality.md").write_text(text)
        (given.output / "quality.json").write_text(line + "\n")
        if any(row.scores for row in rows):
            (given.output / "quality.png").write_bytes(draw(rows, list(places)))
    print(line)
    return 0


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="model directories; the name of the folder becomes the name of the method",
    )
    parser.add_argument("--sites", nargs="+", choices=SITES, default=list(SITES), metavar="SITE",
                        help=f"sites among {', '.join(SITES)} (default: all)")  # fmt: skip
    parser.add_argument(
        "--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="protocols (default: both)"
    )
    parser.add_argument(
        "--frames", type=int, default=60, help="missing-frame: maximum number of hidden frames per site (default 60)"
    )
    parser.add_argument("--trees", type=int, nargs="?", const=400, metavar="TILES",
                        help="include boosted trees, fitted to this many simulated tiles (default 400)")  # fmt: skip
    parser.add_argument("--targets", choices=("both", "source"), default="both",
                        help="masks that decide what is scored: the source's, or these and the rule's")  # fmt: skip
    parser.add_argument(
        "--data", type=Path, default=SHARED, help="folder of the sites' files (default: beside the checkout)"
    )
    parser.add_argument("--folder", type=Path, help="folder for the tile stores (default: a temporary folder)")
    parser.add_argument("--output", type=Path, help="folder for quality.md, quality.json and quality.png")
    return parser.parse_args()


def named(places: list[str]) -> dict[str, str]:
    """Maps method names to addresses. A name is that of the folder or, for folders called `model`, of the parent."""
    names: dict[str, str] = {}
    for place in places:
        *above, name = [part for part in place.split("/") if part]
        name = above[-1] if name == "model" and above else name
        if name in names or name in BASELINES or name == TREES:
            raise UserError(f"{place}: the method name {name!r} is already taken; rename the folder", status=2)
        names[name] = place
    return names


def seen(site: Site, models: Mapping[str, Model]) -> list[str]:
    """Notes on the models that were trained on tiles of a site."""
    found = {name: seen_in_training(model, site.store, site.tile_ids) for name, model in models.items()}
    return [
        f"{name} was trained on {site.name}: its scores there are meaningless" for name, its in found.items() if its
    ]


def score(site: Site, protocol: str, models: Mapping[str, Model], frames: int) -> Row:
    """Scores all methods on a site under a protocol."""
    if not site.tile_ids:
        return Row(site.name, site.is_real, protocol, {}, reason="no frame may be scored")
    hidden = max(1, frames // len(site.tile_ids))
    config = EvaluationConfig.model_validate({"protocol": protocol, "part": "all", "hidden_frames": hidden})
    maker = ExampleMaker(DataConfig(targets=site.targets), site.bands, seed=0)
    methods = baseline_methods() | {
        name: model_method(model, SamplingOptions(calibrate=name != TREES))
        for name, model in models.items()
        if fills(model, site)
    }
    every_track = RadarConfig(track=BOTH_TRACKS)
    reader = tile_reader(site.store, DataConfig(targets=site.targets, radar=every_track), keep=1)
    begin = time.perf_counter()
    results = [score_tile(methods, reader(tile_id), maker, config) for tile_id in site.tile_ids]
    scores = scores_of(summarise(results, config, {}))
    count = sum(len(result.frames) for result in results)
    say(f"{site.name}, {protocol}: {count} frames in {time.perf_counter() - begin:.0f} s")
    return Row(site.name, site.is_real, protocol, scores, count, "" if scores else "no pixel is hidden")


def fills(model: Model, site: Site) -> bool:
    """Whether a model can fill all bands of a site."""
    try:
        return set(model.bands_of(site.bands, site.name)) == set(site.bands)
    except UserError:
        return False


def say(line: str) -> None:
    """Prints progress on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"{error}")
