"""Made-up runs: balls with closed-form distances, on any affine, as the jobs leave them on disk.

`python -m tests.helpers.made_run FOLDER COUNT` writes a run of many cases, to see what its page takes.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import trimesh
import yaml

from scripts.geometry.affine import spacing_mm
from tests.helpers.volumes import OBLIQUE

NAMES = {1: "ball", 2: "egg", 3: "pill"}
CENTRES = {1: (-14.0, 0.0, 0.0), 2: (8.0, 6.0, 2.0), 3: (8.0, -12.0, -4.0)}  # mm from the middle of the grid
RADII = {1: (9.0, 9.0, 9.0), 2: (6.0, 7.0, 11.0), 3: (5.0, 5.0, 9.0)}
SIZE_MM = (64.0, 52.0, 44.0)


def grid_of(affine):
    """Return the shape of a grid of SIZE_MM, and its voxels' world offsets (X, Y, Z, 3) from its middle."""
    shape = np.ceil(np.array(SIZE_MM) / spacing_mm(affine)).astype(int)
    index = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"), -1)
    return shape, index @ affine[:3, :3].T


def middle_of(affine):
    """Return the world point in the middle of the grid."""
    return affine[:3, :3] @ ((grid_of(affine)[0] - 1) / 2) + affine[:3, 3]


LARGE = {"doubtful": False, "agreement": {"initial": {"volume_deviations": 2.36, "at_border": 0.0}}}


def inside(offsets, label, grow_mm=0.0):
    return (((offsets - CENTRES[label]) / (np.array(RADII[label]) + grow_mm)) ** 2).sum(-1) <= 1


def write_run(folder, affine, organ=True, relative=False):
    """Write a run of two cases and return its folder.

    In case "a" each structure grows by 2 mm; the initial ball has an island and a hole, which the refined one
    lacks. Case "b" could not be read. Truth is the refined mask. The pill has a mesh with a colour and an uncertainty a
    vertex: that is 1 mm, and 2 mm in its upper half.
    """
    shape, offsets = grid_of(affine)
    initial, refined = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for label in NAMES:
        refined[inside(offsets, label, 2.0)] = label
    for label in NAMES:
        initial[inside(offsets, label)] = label
    initial[(np.abs(offsets - CENTRES[1]) < 2).all(-1)] = 0
    initial[(np.abs(offsets - (0, 18, 12)) < 3).all(-1)] = 1
    case = folder / "run" / "a"
    for path, values in (
        (case / "a_initial.nii.gz", initial),
        (case / "a_refined.nii.gz", refined),
        (folder / "truth" / "a.nii.gz", refined),
        (folder / "images" / "a.nii.gz", (100.0 * refined + offsets[..., 0]).astype(np.float32)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), path)
    outputs = {"initial": "a_initial.nii.gz", "refined": "a_refined.nii.gz"}
    for label, name in NAMES.items():
        mesh = trimesh.creation.icosphere(subdivisions=4)
        mesh.apply_scale(np.array(RADII[label]) + 2.0)
        mesh.apply_translation(middle_of(affine) + CENTRES[label])
        mesh.export(case / f"a_{name}.stl")
        outputs[name] = f"a_{name}.stl"
    mesh.visual.vertex_colors = place_colours(mesh.vertices - middle_of(affine) - CENTRES[3])
    upper = mesh.vertices[:, 2] > middle_of(affine)[2] + CENTRES[3][2]
    mesh.vertex_attributes["uncertainty_mm"] = np.where(upper, 2.0, 1.0).astype(np.float32)
    mesh.export(case / "a_pill.ply")
    region = {
        "kind": "add",
        "volume_mm3": 1234.5,
        "fit_mm": -2.0,
        "reason": "missing part <b>2 mm</b> inside of the fit",
    }
    regions = [
        region | {"accepted": yes, "centre_world": (middle_of(affine) + CENTRES[1]).tolist()} for yes in (True, False)
    ]
    prefix = "out/a/" if relative else "/elsewhere/out/a/"
    structures = [
        {
            "name": name,
            "failure": "",
            "seconds": {"finetune": 1.5},
            "quality": {"regions": regions, "second_reader_dice": 0.93, **LARGE} if name == "ball" else {"regions": []},
        }
        for name in NAMES.values()
    ]
    report = {
        "job": "refine",
        "started": "2020-02-02T10:00:00+00:00",
        "settings": {"organ": str(folder / "organ") if organ else "gone"},
        "summary": {"cases": 2, "refined": 1, "failed": 1},
        "cases": [
            {
                "case": "a",
                "status": "refined",
                "outputs": {what: prefix + name for what, name in outputs.items()},
                "inputs": {"image": str(folder / "images" / "a.nii.gz")},
                "volumes_ml": {str(label): [1.0, 1.0] for label in NAMES},
                "seconds": {"fit": 4.5},
                "structures": structures,
            },
            {"case": "b", "status": "failed", "reason": "b.nii.gz cannot be read", "warnings": [], "outputs": {}},
        ],
    }
    (folder / "run" / "report.json").write_text(json.dumps(report))
    (folder / "organ").mkdir()
    pack = {
        "name": "shapes",
        "labels": NAMES,
        "structures": [{"name": name, "labels": [label]} for label, name in NAMES.items()],
        "provenance": {"dataset": "made up", "licence": "CC BY-NC 4.0"},
    }
    (folder / "organ" / "organ.yaml").write_text(yaml.safe_dump(pack))
    return folder / "run"


def write_crowd(folder, affine, predicted):
    """Write a run of many cases like "a", of which a DSC is predicted, and the failed "b"; return its folder.

    Args:
        predicted: name → the DSC, %, of the refined egg.
    """
    run = write_run(folder, affine)
    report = json.loads((run / "report.json").read_text())
    first, failed = report["cases"]
    report["cases"] = []
    for name, dsc in predicted.items():
        case = json.loads(json.dumps(first)) | {"case": name}
        (run / name).mkdir()
        for file in (run / "a").iterdir():
            (run / name / file.name.replace("a_", f"{name}_", 1)).symlink_to(file.resolve())
        case["outputs"] = {what: Path(f).name.replace("a_", f"{name}_", 1) for what, f in first["outputs"].items()}
        case["structures"][1]["quality"]["predicted_dsc"] = {"initial": [50, 40, 60], "refined": [dsc, dsc - 5, 100]}
        report["cases"].append(case)
    report["cases"].append(failed)
    report["summary"] = {"cases": len(predicted) + 1, "refined": len(predicted), "failed": 1}
    (run / "report.json").write_text(json.dumps(report))
    return run


def place_colours(offsets):
    """Colour (N, 4) uint8 of points (N, 3) mm around the pill's centre: red says how high."""
    red = np.rint((offsets[:, 2] + 11.0) / 22.0 * 255.0).clip(0, 255)
    return np.stack([red, 0 * red + 20, 0 * red + 200, 0 * red + 255], axis=1).astype(np.uint8)


if __name__ == "__main__":
    guesses = np.random.default_rng(0).uniform(60, 97, int(sys.argv[2]))
    named = {f"case_{number:03d}": float(guess) for number, guess in enumerate(guesses)}
    Path(sys.argv[1]).mkdir(parents=True)
    print(write_crowd(Path(sys.argv[1]), OBLIQUE, named))
