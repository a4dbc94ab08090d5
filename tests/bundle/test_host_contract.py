"""What hosts expect of the bundle beyond its configs' ids; the hosts themselves run in tests/hosts."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.geometry.affine import spacing_mm
from scripts.geometry.surface import mask_signed_distance
from scripts.metrics.surface import score_masks
from scripts.peers.networks import PEERS
from scripts.unet.network import weights_name
from tests.helpers.crossing import agree, crossed, spread_over
from tests.helpers.mean_shape import damaged, mean_shape

CACHE = re.compile(r"(functools\.)?(lru_)?cache\b")
STARLETTE = """
class HTTPException(Exception):
    def __init__(self, status_code, detail=None):
        self.status_code, self.detail = status_code, detail
"""


@pytest.fixture(scope="module")
def modules(bundle_root) -> dict[str, ast.Module]:
    """The bundle's own modules, parsed."""
    files = sorted((bundle_root / "scripts").rglob("*.py"))
    return {str(file.relative_to(bundle_root)): ast.parse(file.read_text()) for file in files}


def test_nothing_is_imported_inside_functions(modules):
    """MONAI Label takes the bundle from the path between calls: such an import works once."""
    late = [
        f"{name}:{node.lineno}"
        for name, module in modules.items()
        for function in ast.walk(module)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert late == []


def test_modules_of_the_bundle_are_imported_relatively(modules):
    absolute = [
        f"{name}:{node.lineno}"
        for name, module in modules.items()
        for node in ast.walk(module)
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "scripts")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "scripts" for alias in node.names))
    ]
    assert absolute == []


def test_modules_keep_no_state_between_calls(modules):
    stateful = [
        f"{name}:{node.lineno}"
        for name, module in modules.items()
        for node in ast.walk(module)
        if isinstance(node, ast.Global)
        or (isinstance(node, ast.FunctionDef) and any(CACHE.match(ast.unparse(d)) for d in node.decorator_list))
    ]
    assert stateful == []


def test_no_class_is_taken_for_one_that_hosts_remove(modules):
    names = [node.name for m in modules.values() for node in ast.walk(m) if isinstance(node, ast.ClassDef)]
    assert [name for name in names if "LoadImage" in name or "SaveImage" in name] == []


def test_weights_that_hosts_look_for_are_found_beside_those_of_other_networks(bundle_root):
    """MONAI Label takes the shortest name of models/*.pt; `train --network_name` writes model_NAME.pt."""
    names = {file.name for file in (bundle_root / "models").glob("*.pt")}
    assert "model.pt" in names and names <= {"model.pt", *map(weights_name, PEERS)}
    assert min(map(weights_name, ("", *PEERS)), key=len) == "model.pt"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study of MONAI Label: an image on an oblique grid, its submitted label, and what cannot be read."""
    folder = tmp_path_factory.mktemp("study")
    truth, affine = mean_shape("oblique")
    nib.save(nib.Nifti1Image(truth.astype(np.float32), affine), folder / "a.nii.gz")
    (folder / "labels" / "final").mkdir(parents=True)
    nib.save(nib.Nifti1Image(damaged(truth, affine).astype(np.uint8), affine), folder / "labels" / "final" / "a.nii.gz")
    few = crossed(truth.astype(np.uint8), spread_over(truth, SHOWN))
    nib.save(nib.Nifti1Image(few, affine), folder / "labels" / "few.nii.gz")
    wide = mask_signed_distance(truth > 0, spacing_mm(affine)) < 1.6
    nib.save(nib.Nifti1Image(wide.astype(np.uint8), affine), folder / "labels" / "wide.nii.gz")
    (folder / "cut.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:900])
    return folder


SHOWN = {0: 1, 1: 3}  # axis → slices that an annotator drew
OPTIONS = ("organ", "preset", "refine", "current_label", "sparse", "enlarged")
FORMS = ("expression", "mapping", "list", "import", "macro", "number")


def attacks(tmp_path_factory) -> dict[str, dict]:
    """Requests with values that a config parser would run, build, import or replace; all would leave a file."""
    folder = tmp_path_factory.mktemp("attacks")
    requests: dict[str, dict] = {}
    for option in OPTIONS:
        ran = folder / f"ran_{option}"
        run = f"$__import__('pathlib').Path('{ran}').touch()"
        build = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(ran)]}}
        (folder / "macro.yaml").write_text(f'value: "{run}"')
        values = (run, build, [run, build], "$import antigravity", f"%{folder}/macro.yaml#value", 17.5)
        for form, value in zip(FORMS, values, strict=True):
            requests[f"{form} {option}"] = {option: value}
    requests["folder organ"] = {"organ": "/etc"}
    requests["up organ"] = {"organ": "../models/hippocampus"}
    requests["file label"] = {"label": "/etc/passwd", "current_label": True}
    requests["expression label"] = {"label": f"$__import__('pathlib').Path('{folder}/ran_label').touch()"}
    requests["expression label"]["current_label"] = True
    requests["expression device"] = {"device": f"$__import__('pathlib').Path('{folder}/ran_device').touch()"}
    return requests


@pytest.fixture(scope="module")
def answers(bundle_root, study, tmp_path_factory) -> dict[str, dict]:
    """All answers of one tiny host, which finds a `starlette` of the test's beside itself."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / "starlette").mkdir()
    (packages / "starlette" / "__init__.py").touch()
    (packages / "starlette" / "exceptions.py").write_text(STARLETTE)
    image, label = str(study / "a.nii.gz"), {"current_label": True, "preset": "linear"}
    wide = {"image": image, "mode": "no_grad", **label, "label": str(study / "labels" / "wide.nii.gz")}
    requests = {
        "first": {"image": image, "mode": "no_grad", **label},
        "network": {"image": image, "mode": "no_grad", "refine": False},
        "second": {"image": image, "mode": "inference_mode", **label},
        "organ": {"image": image, "mode": "no_grad", "organ": "spleen"},
        "preset": {"image": image, "mode": "no_grad", "preset": "best"},
        "switch": {"image": image, "mode": "no_grad", "refine": "perhaps"},
        "cut": {"image": str(study / "cut.nii.gz"), "mode": "no_grad"},
        **{name: {"image": image, "mode": "no_grad", **asked} for name, asked in attacks(tmp_path_factory).items()},
        "drawn": {
            "image": image,
            "mode": "no_grad",
            "preset": "linear",
            "sparse": True,
            "label": str(study / "labels" / "few.nii.gz"),
        },
        "drawn whole": {"image": image, "mode": "no_grad", "sparse": True},
        "drawn unrefined": {"image": image, "mode": "no_grad", "sparse": True, "refine": False},
        "wide": wide,
        "enlarged": {**wide, "enlarged": True},
        "after": {"image": image, "mode": "no_grad", **label},
        "away": {"image": str(study / "labels" / "final" / "a.nii.gz"), "mode": "no_grad", **label},
    }
    done = subprocess.run(
        [sys.executable, str(bundle_root / "tests" / "helpers" / "tiny_host.py")],
        input=json.dumps({"bundle": str(bundle_root), "requests": list(requests.values())}),
        cwd=packages,
        env={**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(requests, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def attack_folder(answers, tmp_path_factory) -> Path:
    return next(tmp_path_factory.getbasetemp().glob("attacks*"))


def test_version_of_the_deploy_application_is_the_bundles(bundle_root):
    version = json.loads((bundle_root / "configs" / "metadata.json").read_text())["version"]
    settings = yaml.safe_load((bundle_root / "docs" / "examples" / "deploy" / "app.yaml").read_text())
    assert settings["application"]["version"] == version
    page = (bundle_root / "docs" / "monai_deploy.md").read_text()
    assert set(re.findall(r"(?:refinement|amd64):(\d+\.\d+\.\d+)", page)) == {version}


def test_values_of_a_request_are_never_evaluated(answers, attack_folder):
    names = [f"{form} {option}" for option in OPTIONS for form in FORMS]
    for name in [*names, "folder organ", "up organ", "file label", "expression label", "expression device"]:
        option = name.split()[1]
        assert answers[name].get("error", "").startswith(f"{option}: "), (name, answers[name])
        assert answers[name]["status_code"] == 422, name
        assert len(answers[name]["error"]) < 600
    assert sorted(file.name for file in attack_folder.iterdir()) == ["macro.yaml"]
    np.testing.assert_array_equal(voxels(answers["after"]), voxels(answers["first"]))  # nothing of it is left behind


def voxels(answer: dict) -> np.ndarray:
    assert answer.get("dtype") == "torch.uint8", answer
    return np.frombuffer(base64.b64decode(answer["voxels"]), np.uint8).reshape(answer["shape"])[0]


def test_two_requests_without_gradients_refine_the_current_label_alike(answers, study):
    drawn = np.asarray(nib.load(study / "labels" / "final" / "a.nii.gz").dataobj)
    first, second = voxels(answers["first"]), voxels(answers["second"])
    assert first.shape == drawn.shape and (first != drawn).sum() > 100
    np.testing.assert_array_equal(first, second)


def test_an_annotators_few_slices_become_the_whole_organ(answers, study):
    truth, affine = mean_shape("oblique")
    few = np.asarray(nib.load(study / "labels" / "few.nii.gz").dataobj)
    refined, result = voxels(answers["drawn"]), answers["drawn"]["result"]
    assert agree(refined, few, spread_over(truth, SHOWN))
    assert score_masks(refined > 0, truth > 0, affine, 1.0)["dsc"] > 90.0
    assert result["sparse"] and result["current_label"] and result["status"] == "refined"
    assert result["structures"][0]["quality"]["evidence"] == "drawn slices"
    assert answers["first"]["result"]["sparse"] is False
    for name, message in {"drawn whole": "nothing to fill in", "drawn unrefined": "sparse: drawn slices"}.items():
        assert message in answers[name]["error"] and answers[name]["status_code"] == 422


def test_disease_may_have_enlarged_the_organ(answers):
    for name, enlarged in (("wide", False), ("enlarged", True)):
        result = answers[name]["result"]
        assert result["enlarged"] is enlarged
        assert (result["structures"][0]["quality"]["taken_in_mm"] > 0) is not enlarged


def test_result_says_what_was_done(answers, study):
    result = answers["first"]["result"]
    drawn = np.asarray(nib.load(study / "labels" / "final" / "a.nii.gz").dataobj)
    assert (result["status"], result["preset"], result["current_label"]) == ("refined", "linear", True)
    assert result["changed_voxels"] == (voxels(answers["first"]) != drawn).sum()
    assert result["labels"] == {"anterior": 1, "posterior": 2}
    assert [(s["name"], s["failure"]) for s in result["structures"]] == [("hippocampus", "")]
    alone = answers["network"]["result"]
    assert (alone["status"], alone["refine"], alone["structures"]) == ("segmented", False, [])
    assert voxels(answers["network"]).shape == drawn.shape


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("organ", "no organ pack 'spleen'"),
        ("preset", "unknown preset 'best'"),
        ("switch", "'perhaps' is neither true nor false"),
        ("cut", "cut.nii.gz cannot be read"),
        ("away", "there is no current label"),
    ],
)
def test_bad_requests_raise_what_a_server_answers_with_422(answers, name, message):
    answer = answers[name]
    assert message in answer.get("error", ""), answer
    assert answer["status_code"] == 422 and "starlette.exceptions.HTTPException" in answer["bases"]
