import ast
import json

import numpy as np
import pytest

from scripts.cases.files import whole_file, write_csv, write_json
from scripts.evidence.head import VoxelHead, VoxelNet
from scripts.shapes.cache import save_arrays

OWNERS = {"write_text", "write_bytes"}  # methods of what they write to
FIRST = {"savefig", "to_filename", "np.save", "np.savez"}  # which argument is what they write to
SECOND = {"save_file", "nib.save", "torch.save", "json.dump"}


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with whole_file(target) as temporary:
        temporary.write_text(json.dumps([1]))
        assert target.read_text() == "old"
    assert json.loads(target.read_text()) == [1] and len(list(tmp_path.iterdir())) == 1


def test_missing_folders_are_made_and_the_ending_stays(tmp_path):
    target = tmp_path / "new" / "folder" / "a.nii.gz"
    with whole_file(target) as temporary:
        assert temporary.name.endswith("a.nii.gz") and temporary.parent == target.parent
        temporary.touch()
    assert target.is_file()


def test_json_is_plain_and_csv_leaves_out_what_is_not_a_number(tmp_path):
    write_json(tmp_path / "a.json", {"grüße": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"grüße": [1, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", float("nan"))
    write_csv(tmp_path / "a.csv", [{"a": 1.0, "b": True}, {"a": float("nan"), "c": "x"}])
    assert (tmp_path / "a.csv").read_text() == "a,b,c\n1,1,\n,,x\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json"]


@pytest.mark.parametrize("name", ["evidence.safetensors", "arrays.npz"])
def test_models_and_caches_that_cannot_be_written_leave_the_old_ones(tmp_path, name, monkeypatch):
    target = tmp_path / name
    target.write_text("old")
    head = VoxelHead({"a": VoxelNet()}, 3.0)

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_arrays(target, {"a": np.zeros(3)}) if name.endswith("npz") else head.save(target)
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def _target(call: ast.Call) -> ast.expr | None:
    """Return what a call writes to, None where it writes no file."""
    name = ast.unparse(call.func)
    method = name.rpartition(".")[2]
    if method in OWNERS and isinstance(call.func, ast.Attribute):
        return call.func.value
    if name == "open" and any(isinstance(a, ast.Constant) and "w" in str(a.value) for a in call.args[1:]):
        return call.args[0]
    return call.args[0] if {name, method} & FIRST else call.args[1] if {name, method} & SECOND else None


def test_nothing_is_written_in_place(bundle_root):
    in_place = []
    for file in sorted((bundle_root / "scripts").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            target = _target(call) if isinstance(call, ast.Call) else None
            if target is not None and ast.unparse(target) != "temporary":
                in_place.append(f"{file.relative_to(bundle_root)}:{call.lineno}")
    assert in_place == []
