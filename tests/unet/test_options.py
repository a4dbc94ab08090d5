"""Options of the training of a U-Net that are of another kind or out of their range."""

import math

import pytest
from monai.bundle import ConfigParser

from scripts.run.config_options import options_of
from scripts.unet.options import OPTIONS, check_options

TEXTS = ("dataset_dir", "organ", "init", "resume")
DEPENDING = {"bundle_root", "device", "run_dir", "model_file", "output_dir", "average"}  # on what else is asked for
BY_NAME = {"network_name"}  # see tests/peers/test_networks.py


def test_every_option_of_the_config_has_its_range(bundle_root):
    file = bundle_root / "configs" / "train.yaml"
    assert set(OPTIONS) == set(options_of(file)) - DEPENDING - BY_NAME
    parser = ConfigParser()
    parser.read_config(str(file))
    calls = [item for item in parser["initialize"] if "check_options" in str(item)]
    checked = {name: text for call in calls for name, text in call.items() if name != "_target_"}
    assert checked == {name: f"@{name}" for name in OPTIONS}
    check_options(**{name: parser.get_parsed_content(name) for name in OPTIONS})


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e12, "x", [[]], {"a": "b"}])
@pytest.mark.parametrize("name", OPTIONS)
def test_odd_values_are_refused_in_a_line(name, value):
    if value == "x" and name in TEXTS:
        check_options(**{name: value})
        return
    with pytest.raises(SystemExit, match=f"^Error: --{name}") as refused:
        check_options(**{name: value})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_no_epoch_no_image_a_step_and_no_validation_are_refused():
    for name in ("max_epochs", "batch_size", "val_interval"):
        with pytest.raises(SystemExit, match=f"^Error: --{name} must be a whole number from 1 to"):
            check_options(**{name: 0})


def test_a_switch_may_come_as_text():
    check_options(finetune="false", learning_rate=1e-3, max_epochs=3)
