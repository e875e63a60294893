"""An evaluation on a cluster is the evaluation in one process."""

import pytest

from restore_dit.config.jobs import EvaluationConfig, SamplingConfig
from restore_dit.evaluation.evaluate import evaluate
from restore_dit.evaluation.report import to_csv
from restore_dit.model.denoiser import Denoiser
from restore_dit.reconstruction.model_directory import save_model
from restore_dit.training.setup import set_up

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.mark.usefixtures("ray_cluster")
def test_two_actors_score_as_one_process(small_run, small_store, tmp_path):
    model = str(tmp_path / "model")
    save_model(model, small_run, Denoiser(small_run.model).state_dict(), set_up(small_run).normalisation, {})
    one_step = SamplingConfig(steps=1)
    config = EvaluationConfig(model=model, store=small_store.uri, part="all", tiles=3, figures=1, sampling=one_step)
    here = evaluate(config.model_copy(update={"output": str(tmp_path / "here")}))
    there = evaluate(config.model_copy(update={"output": str(tmp_path / "there"), "workers": 2}))
    assert to_csv(there) == to_csv(here)
    names = [sorted(path.name for path in (tmp_path / where).iterdir()) for where in ("here", "there")]
    assert names[0] == names[1]
    assert any(name.endswith(".png") for name in names[0])
