"""Which frames may be targets: by limits on the masks, by the source's list, by both."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_dit.config import TargetConfig
from restore_dit.data.examples.targets import DECISIONS, TARGET, counted, decide, explained
from restore_dit.data.store.masks import CLOUD_CLASSES, CloudCounts
from tests.messages import refused

share = st.floats(0, 1)


@st.composite
def cloud_counts(draw: st.DrawFn, no_data: bool = True) -> CloudCounts:
    """Masks of a few frames of 400 pixels; haze unknown where nothing is clear."""
    frames = draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    shares = random.dirichlet(np.full(5 if no_data else 4, 0.3), frames)
    counts = np.floor(shares * 400).astype(int)
    counts[:, 0] += 400 - counts.sum(axis=1)
    names = [name for name in CLOUD_CLASSES if no_data or name != "no_data"]
    found = {name: tuple(counts[:, column].tolist()) for column, name in enumerate(names)}
    found.setdefault("no_data", (0,) * frames)
    haze = tuple(
        float(value) if clear else None
        for value, clear in zip(random.normal(0, 0.05, frames), counts[:, 0], strict=True)
    )
    return CloudCounts(frames=found, haze=haze)


@given(cloud_counts(), share, share, st.none() | st.floats(0, 0.1), st.data())
def test_a_wider_limit_loses_no_target(
    clouds: CloudCounts, hidden: float, no_data: float, haze: float | None, data: st.DataObject
) -> None:
    narrow = TargetConfig(most_hidden=hidden, most_no_data=no_data, most_haze=haze)
    wide = TargetConfig(
        most_hidden=data.draw(st.floats(hidden, 1)),
        most_no_data=data.draw(st.floats(no_data, 1)),
        most_haze=None if haze is None else data.draw(st.none() | st.floats(haze, 1)),
    )
    before, after = (decide(config, clouds, None, "t") == TARGET for config in (narrow, wide))
    assert (after | ~before).all()


@given(cloud_counts(), share, share, st.none() | st.floats(0, 0.1), st.data())
def test_each_frame_has_one_decision_and_the_list_is_taken_as_it_is(
    clouds: CloudCounts, hidden: float, no_data: float, haze: float | None, data: st.DataObject
) -> None:
    frames = len(clouds.haze)
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    limits = {"most_hidden": hidden, "most_no_data": no_data, "most_haze": haze}
    masks, listed, both = (
        decide(TargetConfig(by=by, **limits), clouds, bad, "t") for by in ("masks", "source_list", "both")
    )
    for decisions in (masks, listed, both):
        assert set(decisions) <= set(DECISIONS)
        assert sum(counted(decisions).values()) == frames
    np.testing.assert_array_equal(listed, np.where(bad, "source_list", TARGET))
    np.testing.assert_array_equal(both == TARGET, (masks == TARGET) & ~bad)
    np.testing.assert_array_equal(both[masks != TARGET], masks[masks != TARGET])


@given(cloud_counts(), st.data())
def test_a_frame_must_keep_the_limits_by_its_source_too(clouds: CloudCounts, data: st.DataObject) -> None:
    same_length = cloud_counts().filter(lambda other: len(other.haze) == len(clouds.haze))
    source = data.draw(same_length | st.just(clouds))
    limits = {"most_hidden": 0.3, "most_no_data": 0.2, "most_haze": 0.05}
    by_use, by_source = (decide(TargetConfig(**limits), counts, None, "t") for counts in (clouds, source))
    both = decide(TargetConfig(also_by_source=True, **limits), clouds, None, "t", source_clouds=source)
    expected = np.where((by_use == TARGET) & (by_source != TARGET), "source_classes", by_use)
    np.testing.assert_array_equal(both, expected)


@given(cloud_counts(no_data=False))
def test_as_shipped_it_is_95_percent_clear_where_no_data_lack(clouds: CloudCounts) -> None:
    targets = decide(TargetConfig(), clouds, None, "t") == TARGET
    np.testing.assert_array_equal(targets, np.array(clouds.clear_pixels) >= 0.95 * 400)


@given(cloud_counts())
def test_as_shipped_no_frame_of_95_percent_clear_pixels_is_refused(clouds: CloudCounts) -> None:
    targets = decide(TargetConfig(), clouds, None, "t") == TARGET
    assert targets[np.array(clouds.clear_pixels) >= 0.95 * 400].all()


def of(clear: int, thick: int, thin: int, shadow: int, no_data: int, haze: float | None) -> CloudCounts:
    counts = (clear, thick, thin, shadow, no_data)
    return CloudCounts(frames={name: (count,) for name, count in zip(CLOUD_CLASSES, counts, strict=True)}, haze=(haze,))


@pytest.mark.parametrize(
    ("clouds", "expected"),
    [
        (of(950, 20, 20, 10, 0, 0.0), "target"),
        (of(949, 21, 20, 10, 0, 0.0), "cloud_and_shadow"),
        (of(475, 10, 10, 5, 500, 0.0), "no_data"),
        (of(903, 25, 12, 10, 50, 0.0), "target"),  # 5 % of what has data, and 5 % without
        (of(950, 0, 0, 50, 0, 0.06), "haze"),
        (of(0, 0, 0, 0, 1000, None), "no_data"),
    ],
)
def test_each_limit_counts_what_it_says(clouds: CloudCounts, expected: str) -> None:
    assert decide(TargetConfig(most_haze=0.05), clouds, None, "t").tolist() == [expected]


@settings(max_examples=20)
@given(share, share)
def test_a_frame_without_any_data_is_never_a_target(hidden: float, no_data: float) -> None:
    config = TargetConfig(most_hidden=hidden, most_no_data=no_data)
    assert decide(config, of(0, 0, 0, 0, 9, None), None, "t").tolist() == ["no_data"]


def test_what_is_not_there_cannot_decide() -> None:
    clear = of(9, 0, 0, 0, 0, None)
    with refused("tile a", "data.targets.by=masks"):
        decide(TargetConfig(by="both"), clear, None, "tile a")
    with refused("tile a", "B02", "data.targets.most_haze=null"):
        decide(TargetConfig(most_haze=0.1), clear, None, "tile a")
    with refused("tile a", "B02", "data.targets.most_haze=null"):
        decide(TargetConfig(most_haze=0.1), clear, None, "tile a", ("B8A", "B11"))
    assert decide(TargetConfig(most_haze=0.1), clear, None, "tile a", ("B03", "B11")).tolist() == [TARGET]
    with refused("tile a", "data.targets.also_by_source=false"):
        decide(TargetConfig(also_by_source=True), clear, None, "tile a")
    with refused("tile a", "cloud masks"):
        decide(TargetConfig(), None, np.array([False]), "tile a")
    assert decide(TargetConfig(by="source_list"), None, np.array([False]), "a").tolist() == [TARGET]


def test_errors_say_which_key_refuses_most() -> None:
    text = explained(TargetConfig(by="both", most_haze=0.04), ["haze", "source_list", "haze", "target"])
    counted = re.findall(r"(\d+) [^(]*\((data\.[^)]+)\)", text)
    assert counted == [("2", "data.targets.most_haze=0.04"), ("1", "data.split"), ("1", "data.targets.by=both")]
