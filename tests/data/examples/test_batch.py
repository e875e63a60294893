"""Examples on their way to the device."""

from dataclasses import fields

import pytest
import torch

from restore_dit.data import loader
from restore_dit.data.examples.batch import Batch, to_batch, without_padding
from restore_dit.training.setup import set_up


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    parts |= {field.name: getattr(batch.conditioning, field.name) for field in fields(batch.conditioning)}
    return {name: value for name, value in parts.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("keep_padding", [True, False])
def test_trimmed_and_turned_into_tensors_ahead_it_is_the_same_batch(pixels_run, keep_padding):
    setup = set_up(pixels_run)
    ((columns,),) = loader.step_batches(setup.plan, setup.reader, setup.maker, 1, 2, pixels_run.micro_batch_size)
    expected = to_batch(columns, setup.normalisation, keep_padding=keep_padding)
    ahead = dict(columns) if keep_padding else without_padding(columns)
    numeric = {
        name: values
        for name, values in ahead.items()
        if getattr(values, "dtype", columns["tile_id"].dtype).kind in "bif"
    }
    ahead |= {
        name: torch.from_numpy(values.copy()) for name, values in numeric.items() if name not in ("draw", "epoch")
    }
    found = to_batch(ahead, setup.normalisation, keep_padding=keep_padding)
    assert tensors(found).keys() == tensors(expected).keys()
    for name, value in tensors(expected).items():
        assert torch.equal(tensors(found)[name], value), name
    assert torch.equal(found.noise(), expected.noise())
    assert found.examples == expected.examples
    assert found.drawn_frames == expected.drawn_frames == columns["frame_mask"].shape[1]
