"""What is asked for is checked, and said plainly, before anything is built of it."""

import pytest
import torch

from scripts.organ.pack import MODELS, OrganPack, known_organs
from scripts.refine.settings import known_presets
from scripts.run.request import BadRequest, CheckRequestd, find_problem, pack_of
from scripts.unet.network import build_unet
from tests.helpers.small_pack import write_pack


@pytest.fixture
def pack(tmp_path):
    return write_pack(tmp_path / "boxes")


def test_what_is_there_is_no_problem():
    assert find_problem("hippocampus", "default", True, False) == ""
    assert find_problem("hippocampus", "paper", "yes", "no") == ""


def test_names_that_are_not_known_are_said(pack):
    assert "no organ pack 'spleen'" in find_problem("spleen")
    assert "unknown preset 'best'; choose one of default" in find_problem("hippocampus", "best")
    assert "neither true nor false" in find_problem("hippocampus", refine="perhaps")
    assert "neither true nor false" in find_problem("hippocampus", current_label="perhaps")
    assert find_problem("hippocampus", "best", refine=False) == ""  # the preset is not used


def test_prior_and_network_are_asked_for_where_they_are_needed(pack):
    assert "no shape prior" in find_problem(pack) and "boxes.safetensors" in find_problem(pack)
    assert find_problem(pack, refine=False) == ""
    problem = find_problem(pack, refine=False, current_label=False)
    assert "organ 'boxes' has no U-Net" in problem and str(pack / "model.pt") in problem
    torch.save(build_unet(OrganPack.load(pack)).state_dict(), pack / "model.pt")
    assert find_problem(pack, refine=False, current_label=False) == ""


def test_default_organ_stands_in_where_there_is_a_problem(pack):
    assert pack_of(pack, "").name == "boxes"
    assert pack_of("spleen", "there is none").name == "hippocampus"


def test_choices_begin_with_the_default():
    assert known_organs()[0] == "hippocampus"
    assert set(known_organs()) == {file.parent.name for file in MODELS.glob("*/organ.yaml")}
    assert known_presets()[0] == "default" and set(known_presets()) >= {"linear", "paper"}


def test_request_is_refused_by_the_first_transform():
    assert CheckRequestd("image", "")({"image": 1, "other": 2}) == {"image": 1, "other": 2}
    with pytest.raises(BadRequest, match="^no such organ$"):
        CheckRequestd("image", "no such organ")({"image": 1})
