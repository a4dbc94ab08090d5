"""Options of the training of priors that are of another kind or out of their range."""

import math

import pytest
from monai.bundle import ConfigParser

from scripts.run.config_options import options_of
from scripts.training.prior.options import OPTIONS, check_options
from tests.helpers.tiny_run import TINY

TEXTS = ("dataset_dir", "organ", "cache_dir", "source", "init", "resume", "output_file", "anchor", "label")
DEPENDING = {"bundle_root", "device", "run_dir"}  # on what else is asked for


def test_every_option_of_the_config_has_its_range(bundle_root):
    file = bundle_root / "configs" / "train_prior.yaml"
    assert set(OPTIONS) == {name for name in options_of(file)} - DEPENDING | {"loss_weights"}
    parser = ConfigParser()
    parser.read_config(str(file))
    (call,) = (item for item in parser["initialize"] if "check_options" in str(item))
    assert {name: f"@{name}" for name in OPTIONS} == {name: text for name, text in call.items() if name != "_target_"}
    check_options(**{name: parser.get_parsed_content(name) for name in OPTIONS if name != "cache_dir"})
    check_options(**{name: value for name, value in TINY.items() if "#" not in name})


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e12, "x", [[]], {"a": "b"}, 1e-300j])
@pytest.mark.parametrize("name", OPTIONS)
def test_odd_values_are_refused_in_a_line(name, value):
    if value == "x" and name in TEXTS:
        check_options(**{name: value})
        return
    with pytest.raises(SystemExit, match=f"^Error: --{name}") as refused:
        check_options(**{name: value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_labels_as_numbers_and_switches_as_text_are_taken_numbers_as_text_are_not():
    check_options(network_lr=2e-4, label=3, hidden=64, keep_best="false", train_cases=None, code_lr=1)
    for name, value, meant in (("network_lr", "2e-4", "0.0002"), ("hidden", "64", "64"), ("seed", 1e9, "1000000000")):
        with pytest.raises(SystemExit, match=f"--{name} must be written as {meant}, not"):
            check_options(**{name: value})
    with pytest.raises(SystemExit, match="--keep_best must be true or false"):
        check_options(keep_best="perhaps")
