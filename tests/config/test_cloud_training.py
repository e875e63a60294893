"""The configuration of a cloud training: what is left out, and what is refused."""

import pytest

from restore_dit.config.cloud_training import TRAINED_NETWORK, CloudTrainingConfig
from restore_dit.config.loading import dump, load_section
from tests.messages import refused


def test_a_setting_of_the_network_leaves_the_others_as_they_are_trained():
    config = load_section(CloudTrainingConfig, ["network.reference=false"])
    assert config.network == TRAINED_NETWORK.model_copy(update={"reference": False})
    assert CloudTrainingConfig().network == TRAINED_NETWORK


def test_a_dumped_configuration_comes_back(tmp_path):
    config = load_section(CloudTrainingConfig, ["stores=[a, b]", "shares=[1, 2]", "loss.dice=0.5", "crop=96"])
    (tmp_path / "training.yaml").write_text(dump(config))
    assert load_section(CloudTrainingConfig, path=tmp_path / "training.yaml") == config


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("crop=48", ["crop 48", 32]),
        ("shares=[1]", ["1 shares", "2 stores"]),
        ("stores=[a, a]", ["stores:"]),
        ("frames={mixed: 0, clear: 0, covered: 0}", ["frames:", "mixed", "clear", "covered", 0]),
        ("optimizer.learning_rate=1", ["'optimizer'", "'optimiser'"]),
        ("labels=network", ["labels", "'network'", "'source'"]),
    ],
)
def test_what_cannot_be_is_one_line(override, facts):
    with refused(*facts, status=2):
        load_section(CloudTrainingConfig, ["stores=[a, b]", override])
