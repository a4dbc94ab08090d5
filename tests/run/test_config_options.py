"""The options of a job, as its config states them."""

import pytest
import yaml

from scripts.run.arguments import ANY, NUMBER, SWITCH, TEXT, WHOLE, Option
from scripts.run.config_options import END, description_of, keys_of, options_of

CONFIG = f"""# Refines masks:
#
#   refine --dataset_dir masks/

imports:
- $import os
bundle_root: .                     # the folder
dataset_dir: "$@bundle_root + '/masks'"     # a folder # or a file
seed: 0                            # the same seed
                                   # the same result
rate: 2.0e-4
html: true                         # false: none
# ---- a section
steps: $3 if @html else 4          # 3, else 4
label: 7
weights: {{}}                        # {{code: 1}}
last: null                         # ends here
shown:
  organ: liver
{END}
network_def: 3                     # not an option
train#seed: 1
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "job.yaml").write_text(CONFIG)
    return tmp_path / "job.yaml"


def test_options_are_the_keys_above_the_line_with_their_comments(config):
    assert list(options_of(config).values()) == [
        Option("bundle_root", TEXT, ".", "the folder"),
        Option("dataset_dir", TEXT, "masks/ in the bundle", "a folder # or a file"),
        Option("seed", WHOLE, "0", "the same seed the same result"),
        Option("rate", NUMBER, "2.0e-4", ""),
        Option("html", SWITCH, "true", "false: none"),
        Option("steps", ANY, "", "3, else 4"),
        Option("label", TEXT, "7", ""),
        Option("weights", ANY, "", "{code: 1}"),
        Option("last", ANY, "", "ends here"),
    ]


def test_keys_are_all_of_the_config(config):
    assert keys_of([config]) == {*yaml.safe_load(CONFIG)} - {"train#seed"} | {"train"}


def test_a_config_says_what_it_does_in_its_first_lines(config):
    assert description_of(config) == "Refines masks:\n\n  refine --dataset_dir masks/"
