"""What a training says of its cases and of the weights that it kept."""

import logging
import os
from types import SimpleNamespace

import pytest

from scripts.unet.outcome import TrainingWords


def evaluator(best, epoch=4):
    return SimpleNamespace(state=SimpleNamespace(best_metric=best, best_metric_epoch=epoch))


def test_numbers_of_cases_are_said_and_a_single_one_for_validation(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = TrainingWords(tmp_path / "model.pt", "my organ")
    words.begin(range(8), range(2))
    assert caplog.messages == ["8 cases to learn from, 2 to choose the weights by"]
    words.begin(range(1), range(1))
    assert "one case chooses the weights" in caplog.messages[-1]


@pytest.mark.parametrize(("best", "warned"), [(0.83, False), (0.01, True)])
def test_kept_weights_are_named(tmp_path, caplog, best, warned):
    caplog.set_level(logging.INFO)
    words = TrainingWords(tmp_path / "model.pt", "my organ")
    (tmp_path / "model.pt").touch()
    words.end(evaluator(best))
    assert f"best validation Dice {best:.3f}, after epoch 4: {tmp_path / 'model.pt'}" in caplog.messages
    assert any("segment --dataset_dir IMAGES/ --organ 'my organ' " in message for message in caplog.messages)
    assert ("finds next to nothing" in caplog.messages[-1]) == warned


def test_the_next_command_names_another_network(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "model_scan.pt").touch()
    TrainingWords(tmp_path / "model_scan.pt", "thorax", "scan").end(evaluator(0.8))
    assert "--organ thorax --network_name scan --output_dir output/" in caplog.messages[-1]


def test_a_run_that_keeps_nothing_says_so(tmp_path, caplog):
    words = TrainingWords(tmp_path / "model.pt", "my organ")
    words.end(evaluator(-1.0))
    (tmp_path / "model.pt").touch()
    os.utime(tmp_path / "model.pt", (1.0, 1.0))  # an earlier run's
    words.end(evaluator(-1.0))
    assert ["no weights were kept" in message for message in caplog.messages] == [True, True]
