"""What is asked for is checked, and said plainly, before anything is built of it."""

import pytest
import torch

from scripts.organ.pack import MODELS, OrganPack, known_organs
from scripts.refine.settings import known_presets
from scripts.run.request import FROM_LABEL, BadRequest, CheckRequestd, OpenRequest, Request, has_unet, offered_organs
from scripts.unet.network import build_unet
from tests.helpers.small_pack import write_pack


def problem_of(*args, **kwargs) -> str:
    return Request.of(*args, **kwargs).problem


@pytest.fixture
def pack(tmp_path):
    return write_pack(tmp_path / "boxes")


def test_what_is_there_is_no_problem():
    assert problem_of("hippocampus", "default", True, False) == ""
    assert problem_of("hippocampus", "paper", "yes", "no") == ""


def test_names_that_are_not_known_are_said(pack):
    assert "no organ pack 'spleen'" in problem_of("spleen")
    assert "unknown preset 'best'; choose one of default" in problem_of("hippocampus", "best")
    assert "neither true nor false" in problem_of("hippocampus", refine="perhaps")
    assert "neither true nor false" in problem_of("hippocampus", current_label="perhaps")
    assert problem_of("hippocampus", "best", refine=False) == ""  # the preset is not used


def test_prior_and_network_are_asked_for_where_they_are_needed(pack):
    assert "no shape prior" in problem_of(pack) and "boxes.safetensors" in problem_of(pack)
    assert problem_of(pack, refine=False) == ""
    problem = problem_of(pack, refine=False, current_label=False)
    assert "organ 'boxes' has no U-Net" in problem and str(pack / "model.pt") in problem
    torch.save(build_unet(OrganPack.load(pack)).state_dict(), pack / "model.pt")
    assert problem_of(pack, refine=False, current_label=False) == ""


def test_default_organ_stands_in_where_there_is_a_problem(pack):
    assert Request.of(pack, refine=False).pack.name == "boxes"
    assert Request.of("spleen").pack.name == "hippocampus"


def test_choices_begin_with_the_default():
    assert known_organs()[0] == "hippocampus"
    assert set(known_organs()) == {file.parent.name for file in MODELS.glob("*/organ.yaml")}
    assert known_presets()[0] == "default" and set(known_presets()) >= {"linear", "paper"}


def test_menu_offers_only_what_can_answer():
    """Every organ that the menu offers is refined or segmented: none is answered that its U-Net is missing."""
    offered = offered_organs()
    assert offered[0] == known_organs()[0]
    assert [name.removesuffix(FROM_LABEL) for name in sorted(offered)] == sorted(known_organs())
    for name in offered:
        request = OpenRequest("hippocampus", "linear")
        request.take({"organ": name, "current_label": False})
        assert request.asked["current_label"] is name.endswith(FROM_LABEL)
        assert request.asked["organ"] == name.removesuffix(FROM_LABEL)
        pack = OrganPack.load(request.asked["organ"])
        assert has_unet(pack) is not name.endswith(FROM_LABEL)
    kidneys = "kidneys" + FROM_LABEL
    assert kidneys in offered and problem_of("kidneys", current_label=True) == ""


def test_organ_of_the_menu_that_is_none_is_named_as_it_was_asked_for():
    with pytest.raises(BadRequest, match=r"organ: no organ pack 'spleen'; choose one of"):
        OpenRequest("hippocampus").take({"organ": "spleen" + FROM_LABEL})


def test_request_is_refused_by_the_first_transform():
    data = {"image": 1, "other": 2}
    assert CheckRequestd("image", OpenRequest("hippocampus", "linear", current_label=True))(data) == data
    with pytest.raises(BadRequest, match="^no organ pack 'spleen'"):
        CheckRequestd("image", OpenRequest("spleen"))(data)


def test_options_in_the_data_go_before_those_of_the_config():
    request = OpenRequest("hippocampus", "default")
    request.take({"image": 1})
    assert request.asked["preset"] == "default"
    request.take({"preset": known_presets()[::-1], "refine": "no", "current_label": "true", "organ": known_organs()})
    expected = {"organ": "hippocampus", "preset": known_presets()[-1], "refine": False, "current_label": True}
    assert request.asked == expected | {"sparse": False, "enlarged": False, "network": ""}
    assert request.settled.refiner is None and request.settled.has_mask


def test_a_depth_of_no_structure_is_a_problem_of_the_request():
    assert problem_of("hippocampus", inward_mm="liver=2") == (
        "inward_mm: there is no structure 'liver'; there are hippocampus, hippocampus_right, hippocampus_left"
    )
    request = OpenRequest("hippocampus", "linear", current_label=True, inward_mm="hippocampus=-0.5")
    assert request.settled.refiner.inward_mm == {}  # a host's label is nobody's network's
    request = OpenRequest("hippocampus", "linear", inward_mm="hippocampus=-0.5")
    assert request.settled.refiner.inward_mm["hippocampus"] == -0.5


def test_a_depth_of_the_config_is_none_of_another_organ_that_a_host_asks_for():
    request = OpenRequest("hippocampus", "linear", inward_mm="hippocampus=-0.5")
    request.take({"organ": "left_atrium"})
    assert request.settled.problem == "" and request.settled.refiner.inward_mm == {}


def test_options_that_come_after_something_was_built_are_refused():
    request = OpenRequest("hippocampus", refine=False, current_label=True)
    assert request.settled.problem == ""
    request.take({"refine": False})
    with pytest.raises(BadRequest, match="too late"):
        request.take({"refine": True})


def test_path_of_a_pack_is_taken_from_the_config_alone(pack):
    assert OpenRequest(pack, refine=False, current_label=True).settled.pack.name == "boxes"
    for value in (str(pack), "$1", {"_target_": "os.getcwd"}, [], None, 3):
        with pytest.raises(BadRequest, match="^organ: "):
            OpenRequest("hippocampus").take({"organ": value})
