"""The scale of the networks' inputs, and the file that keeps it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from restore_dit.data.examples.normalisation import (
    BRIGHT_CEILING,
    OPTICAL_CEILING,
    Normalisation,
    optical_to_network,
    published_scale_to_stored,
    stored_to_published_scale,
)
from tests.messages import refused


def test_the_ceiling_is_kept_and_older_files_have_the_published_one():
    ours = Normalisation(("VV",), (-11.0,), (3.0,), BRIGHT_CEILING)
    assert Normalisation.from_json(ours.to_json(), "here") == ours
    fields = json.loads(ours.to_json())
    del fields["optical_ceiling"]
    assert Normalisation.from_json(json.dumps(fields).encode(), "here").optical_ceiling == OPTICAL_CEILING


@pytest.mark.parametrize("ceiling", [0, -1, 7999, 20_001, "bright"])
def test_a_ceiling_that_would_clip_everything_or_nothing_is_refused(ceiling):
    fields = json.loads(Normalisation().to_json()) | {"optical_ceiling": ceiling}
    with refused("here", str(ceiling)):
        Normalisation.from_json(json.dumps(fields).encode(), "here")


def test_one_on_either_scale_is_a_reflectance_of_four_fifths_and_brighter_ground_is_kept_up_to_the_ceiling():
    stored = np.array([-300, 0, 4000, 8000, 16_000, 20_000, 25_000], np.int16)
    assert stored_to_published_scale(stored).tolist() == [0, 0, 0.5, 1, 1, 1, 1]
    assert stored_to_published_scale(stored, BRIGHT_CEILING).tolist() == [0, 0, 0.5, 1, 2, 2.5, 2.5]
    network = optical_to_network(torch.from_numpy(stored), BRIGHT_CEILING)
    assert network.tolist() == [-1, -1, 0, 1, 3, 4, 4]
    back = published_scale_to_stored(stored_to_published_scale(stored, BRIGHT_CEILING))
    assert back.tolist() == [0, 0, 4000, 8000, 16_000, 20_000, 20_000]
