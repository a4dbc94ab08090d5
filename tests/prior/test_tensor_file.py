"""Safetensors files whose headers ask for more than their tensors hold: refused before anything is built."""

import json
import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scripts.evidence import head as head_module
from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.prior import prior as prior_module
from scripts.prior.field import DeformTemplateField, field_sizes
from scripts.prior.joint import JointPart, JointShapeModel
from scripts.prior.linear import LinearShapeModel
from scripts.prior.prior import ShapePrior
from scripts.prior.tensor_file import BrokenFile, open_tensors


def changed(file, key, change, tensors=None, without=()):
    """Write a file anew with another header and other tensors."""
    with safe_open(file, "pt") as stream:
        header = json.loads(stream.metadata()[key])
        values = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    change(header)
    values = {name: value for name, value in values.items() if name not in without} | (tensors or {})
    save_file(values, file, metadata={key: json.dumps(header)})
    return file


def refusal(load, file) -> str:
    with pytest.raises(BrokenFile) as caught:
        load(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and "\n" not in message and message.endswith("train it anew.")
    return message


def nothing(header):
    pass


@pytest.fixture
def file(prior, tmp_path):
    return prior.save(tmp_path / "ball.safetensors")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"hidden": 60000}, "hidden is no whole number from 1 to 4096"),
        ({"hidden": 4000}, r"field.template_net.weight.0 has the shape (24, 3), its header says (4000, 3)"),
        ({"hidden": "24"}, "hidden is no whole number"),
        ({"hidden": True}, "hidden is no whole number"),
        ({"hidden": -24}, "hidden is no whole number"),
        ({"layers": 1000}, "layers is no whole number from 1 to 64"),
        ({"layers": 1}, "needs at least 2 layers"),
        ({"layers": 4}, "field.template_net.weight.2 has the shape (1, 24), its header says (24, 24)"),
        ({"rank": 4000}, "field.hyper.right.0 has the shape (6, 2), its header says (6, 4000)"),
        ({"code_dim": 4000}, "field.hyper.weight.0 has the shape"),
        ({"hyper_code_dim": 4000}, "code_mean has the shape (5,), its header says (4003,)"),
        ({"hyper": "full"}, "it lacks the tensor field.hyper.nets.0.4.bias"),
        ({"hyper": "huge"}, 'hyper must be "low_rank" or "full"'),
        ({"hyper": ["full"]}, 'hyper must be "low_rank" or "full"'),
        ({"omega": float("nan")}, "omega is no number above 0"),
        ({"width": 9}, "its header's field needs hidden, layers, omega"),
    ],
)
def test_a_header_that_asks_for_another_field_builds_none(file, monkeypatch, field, message):
    changed(file, "prior", lambda header: header["field"].update(field))
    monkeypatch.setattr(prior_module, "DeformTemplateField", lambda **_: pytest.fail("a field was built"))
    assert message in refusal(ShapePrior.load, file)


@pytest.mark.parametrize(
    ("tensors", "without", "message"),
    [
        ({"code_whitening": torch.zeros(5, 4)}, (), "code_whitening has the shape (5, 4), its header says (5, 5)"),
        ({"linear.modes_step": torch.ones(10**6)}, (), "linear.modes_step has the shape (1000000,)"),
        ({"linear.std": torch.ones(3)}, (), "linear.std has the shape (3,)"),
        ({"linear.extent": torch.ones(2)}, (), "linear.extent has the shape (2,), not (1,) or (3,)"),
        ({"linear_to_code": torch.ones(9, 5)}, (), "linear_to_code has the shape (9, 5)"),
        ({"anchor_points": torch.ones(9, 2)}, (), "anchor_points has the shape (9, 2)"),
        ({"template_normals": torch.ones(9, 3)}, (), "template_normals has the shape (9, 3)"),
        ({"field.more": torch.ones(1)}, (), "its header's field is of other tensors"),
        ({}, ("linear.modes",), "linear.modes are no grids"),
        ({}, ("anchor_points",), "it lacks the tensor anchor_points"),
        ({}, ("field.hyper.nets.0.0.bias",), "its header's field is of other tensors"),
    ],
)
def test_tensors_that_do_not_fit_together_are_named(file, tensors, without, message):
    assert message in refusal(ShapePrior.load, changed(file, "prior", nothing, tensors, without))


def test_headers_without_what_they_must_hold(file):
    assert "scale_mm is no number" in refusal(ShapePrior.load, changed(file, "prior", lambda h: h.update(scale_mm=0)))
    assert "no card" in refusal(ShapePrior.load, changed(file, "prior", lambda h: h.update(scale_mm=9, card=None)))


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
@pytest.mark.parametrize("load", [ShapePrior.load, JointShapeModel.load, VoxelHead.load])
def test_other_files_are_named(tmp_path, load, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(BrokenFile, match="a.safetensors is no safetensors file .*: copy it again or train it anew"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["[]", "3", "{", "[" * 10**5])
def test_headers_that_are_no_mapping(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"prior": text})
    assert "header" in refusal(ShapePrior.load, tmp_path / "a.safetensors")


def test_cut_files_are_named(file):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BrokenFile, match="is no safetensors file"):
        ShapePrior.load(file)


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
def test_sizes_of_a_field_are_those_of_its_parameters(hyper):
    settings = {"hidden": 12, "layers": 3, "omega": 15.0, "code_dim": 3, "hyper_code_dim": 2, "hyper": hyper, "rank": 2}
    state = DeformTemplateField(**settings).state_dict()
    sizes = field_sizes(**settings)
    assert sizes == {name: tuple(state[name].shape) for name in sizes}


def test_a_header_costs_no_memory(file):
    changed(file, "prior", lambda header: header["field"].update(hidden=4096, layers=64, rank=4096))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(ShapePrior.load, file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


# -------------------------------------------------------------------------------------- joint model, voxel head


@pytest.fixture
def joint(tmp_path):
    def part(modes):
        linear = LinearShapeModel(torch.zeros(3, 4, 5), torch.zeros(modes, 3, 4, 5), torch.ones(modes), torch.ones(3))
        return JointPart(torch.zeros(3), linear)

    JointShapeModel({"a": part(2), "b": part(2)}, 40.0, {}).save(tmp_path / "joint.safetensors")
    return tmp_path / "joint.safetensors"


@pytest.mark.parametrize(
    ("change", "tensors", "without", "message"),
    [
        ({"radius_mm": float("inf")}, {}, (), "radius_mm is no number above 0"),
        ({"radius_mm": "40"}, {}, (), "radius_mm is no number above 0"),
        ({}, {"a.modes_step": torch.ones(10**6)}, (), "a.modes_step has the shape (1000000,)"),
        ({}, {"a.centre": torch.ones(2)}, (), "a.centre has the shape (2,)"),
        ({}, {}, ("b.centre",), "it lacks the tensor b.centre"),
        ({}, {"loose": torch.ones(2)}, (), "modes are no grids"),
        (
            {},
            {"b.modes": torch.zeros(3, 3, 4, 5), "b.modes_step": torch.ones(3), "b.std": torch.ones(3)},
            (),
            "its structures differ in their number of modes",
        ),
    ],
)
def test_broken_joint_models_are_named(joint, change, tensors, without, message):
    assert JointShapeModel.load(joint).n_modes == 2
    changed(joint, "card", lambda header: header.update(change), tensors, without)
    assert message in refusal(JointShapeModel.load, joint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 10**6}, "width is no whole number from 1 to 1024"),
        ({"width": 65}, "0.layers.0.weight has the shape"),
        ({"channels": ["mask"]}, "its channels are not those of this version"),
        ({"structures": ["ball", "cube"]}, "does not number the structures' nets"),
        ({"structures": ["ball", "cube"], "nets": [0, 1]}, "it lacks the tensor 1."),
        ({"context": 10**6}, "context is no whole number from 1 to 256"),
        ({"context": 4}, "it lacks the tensor 0.around."),
        ({"nets": [3]}, "does not number the structures' nets"),
        ({"nets": "0"}, "does not number the structures' nets"),
        ({"structures": []}, "names no structures"),
        ({"structures": [str(k) for k in range(10**5)]}, "more than 256"),
        ({"structures": [1]}, "structures are no names"),
        ({"step_mm": 0}, "step_mm is no number above 0"),
        ({"card": "good"}, "its card is no mapping"),
    ],
)
def test_broken_voxel_heads_are_named_and_none_is_made(tmp_path, monkeypatch, change, message):
    file = tmp_path / "evidence.safetensors"
    VoxelHead({"ball": VoxelNet()}, 1.0).save(file)
    changed(file, "evidence", lambda header: header.update(change))
    monkeypatch.setattr(head_module.VoxelHead, "__init__", lambda *args: pytest.fail("a head was made"))
    assert message in refusal(VoxelHead.load, file)


def test_a_file_is_read_by_its_shapes_first(file):
    with open_tensors(file, "prior") as opened:
        assert opened.shapes["code_mean"] == (5,) and opened.header["scale_mm"] == 31.5
