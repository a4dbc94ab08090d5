"""docs/examples/deploy in the MONAI Deploy App SDK: a DICOM series gives the masks and meshes that its NIfTI gives."""

import json
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import trimesh
import yaml
from monai.bundle import ckpt_export
from scipy.spatial.transform import Rotation

from scripts.demo import cut_boxes
from scripts.dicom.series import read_series
from scripts.organ.pack import MODELS
from scripts.run.jobs import run_job
from tests.helpers.chest import cut_chest
from tests.helpers.publishers import LPS
from tests.helpers.series import write_host_series
from tests.hosts.host_venv import host_python, requirement_lines

pytestmark = [pytest.mark.hosts, pytest.mark.slow]

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [9, -7, 12], degrees=True).as_matrix() @ np.diag([1.1, 0.9, 1.2])
OBLIQUE[:3, 3] = (-60.0, -50.0, -30.0)


@pytest.fixture(scope="module")
def python(bundle_root) -> Path:
    """The interpreter with the SDK and the bundle's requirements."""
    files = bundle_root / "requirements.txt", bundle_root / "docs" / "examples" / "deploy" / "requirements.txt"
    return host_python("deploy", requirement_lines(*files))


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> nib.Nifti1Image:
    """The MNI152 box around the left hippocampus, with a black ball where the hippocampus' head is."""
    folder = tmp_path_factory.mktemp("mni152")
    cut_boxes(folder)
    image = nib.load(folder / "mni152_left.nii.gz")
    values = np.asarray(image.dataobj).copy()
    world = np.moveaxis(np.indices(values.shape), 0, -1) @ image.affine[:3, :3].T + image.affine[:3, 3]
    values[np.linalg.norm(world - (-24.0, -14.0, -19.0), axis=-1) < 4.0] = 1
    return nib.Nifti1Image(values + np.int16(1), image.affine)  # no voxel is 0: the SDK makes it unsigned


def make_case(folder: Path, image: nib.Nifti1Image, modality: str = "MR") -> Path:
    """Write a DICOM series, and the NIfTI file that a converter makes of it; return the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(image, folder / "written.nii.gz")
    write_host_series(folder / "dicom", folder / "written.nii.gz", modality)
    values, affine = read_series(folder / "dicom")
    np.testing.assert_array_equal(values, np.asarray(image.dataobj))
    np.testing.assert_allclose(affine, image.affine, atol=1e-5)
    nib.save(nib.Nifti1Image(values, affine), folder / "case.nii.gz")
    return folder / "case.nii.gz"


def reference(volume: Path, **options) -> Path:
    """Run the bundle's `inference` job on the NIfTI file; return the case's folder."""
    run_job("inference", dataset_dir=volume, output_dir=volume.parent / "nifti", html=False, device="cpu", **options)
    return volume.parent / "nifti" / "case"


def run_app(python: Path, app: Path, folder: Path, *arguments: str, **environment: str) -> Path:
    """Run an application on the series; return its output folder."""
    done = start_app(python, app, folder, *arguments, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "output"


def start_app(python: Path, app: Path, folder: Path, *arguments: str, **environment: str):
    """Run an application on the series; return how it ended."""
    return subprocess.run(
        [str(python), str(app), "-i", str(folder / "dicom"), "-o", str(folder / "output"), "-l", "WARN", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def read_seg(folder: Path, like: nib.Nifti1Image) -> tuple[np.ndarray, pydicom.Dataset]:
    """Return a DICOM SEG as a label map on a volume's grid, each frame put where its own position says."""
    (file,) = folder.glob("*.dcm")
    seg = pydicom.dcmread(file)
    shared = seg.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    grid = LPS @ like.affine
    spacing = np.linalg.norm(grid[:3, :3], axis=0)
    np.testing.assert_allclose(axes, (grid[:3, :2] / spacing[:2]).T, atol=1e-5)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    np.testing.assert_allclose((between_columns, between_rows), spacing[:2], rtol=1e-5)
    labels = np.zeros(like.shape, np.uint8)
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.linalg.inv(grid) @ (*groups.PlanePositionSequence[0].ImagePositionPatient, 1.0)
        np.testing.assert_allclose(place[:3], (0, 0, round(place[2])), atol=1e-3)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        labels[:, :, round(place[2])][frame.T > 0] = number
    return labels, seg


def same_masks(output: Path, expected: Path) -> pydicom.Dataset:
    """Check that the SEG holds the refined mask voxel by voxel, and that refinement had something to do."""
    refined = nib.load(expected / "case_refined.nii.gz")
    labels, seg = read_seg(output, refined)
    np.testing.assert_array_equal(labels, np.asarray(refined.dataobj))
    assert (labels != np.asarray(nib.load(expected / "case_initial.nii.gz").dataobj)).sum() > 10
    return seg


def same_mesh(file: Path, expected: Path) -> None:
    """Check that two meshes are one, to a hundredth of a micrometre's rounding in float32."""
    one, other = (trimesh.load(path, process=False) for path in (file, expected))
    np.testing.assert_array_equal(one.faces, other.faces)
    np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-3)


@pytest.fixture(scope="module")
def app(bundle_root) -> Path:
    return bundle_root / "docs" / "examples" / "deploy"


@pytest.fixture(scope="module")
def exported(bundle_root, tmp_path_factory) -> Path:
    """A folder with `model.ts`: the default organ's U-Net, exported with its config."""
    folder = tmp_path_factory.mktemp("model")
    ckpt_export(
        net_id="network_def",
        filepath=str(folder / "model.ts"),
        ckpt_file=str(MODELS / "model.pt"),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        config_file=str(bundle_root / "configs" / "inference.yaml"),
        key_in_ckpt="",
        use_trace=True,
    )
    return folder


def test_exported_model_on_an_oblique_series_of_oblong_pixels(bundle_root, python, app, box, exported, tmp_path):
    volume = make_case(tmp_path, nib.Nifti1Image(np.asarray(box.dataobj), OBLIQUE))
    output = run_app(python, app, tmp_path, "-m", str(exported), PYTHONPATH=str(bundle_root))
    expected = reference(volume)
    seg = same_masks(output, expected)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["anterior", "posterior"]
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Hippocampus"
    colours = [tuple(s.RecommendedDisplayCIELabValue) for s in seg.SegmentSequence]
    assert len(set(colours)) == 2 and all(0 < lightness < 65536 for lightness, _, _ in colours)
    version = json.loads((bundle_root / "configs" / "metadata.json").read_text())["version"]
    assert seg.ContributingEquipmentSequence[0].SoftwareVersions == version
    source = pydicom.dcmread(next((tmp_path / "dicom").iterdir()), stop_before_pixels=True)
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[name].value == source[name].value
    same_mesh(output / "hippocampus.stl", expected / "case_hippocampus.stl")
    result = json.loads((output / "result.json").read_text())
    assert result["status"] == "refined" and result["organ"] == "hippocampus"
    assert any(region["accepted"] for region in result["structures"][0]["quality"]["regions"])


def test_a_series_of_another_modality_is_refused_in_one_line(bundle_root, python, app, box, tmp_path):
    make_case(tmp_path, box, "CT")
    done = start_app(python, app, tmp_path, "-m", str(bundle_root))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: no series fits hippocampus, which needs MR; the input has CT: ")
    assert not list((tmp_path / "output").glob("*"))


def test_results_of_another_run_are_refused_and_named(bundle_root, python, app, box, tmp_path):
    make_case(tmp_path, box)
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "1.2.3.dcm").write_bytes(b"")
    done = start_app(python, app, tmp_path, "-m", str(bundle_root))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]  # lines of the SDK follow
    assert said.endswith("holds results of another run, 1.2.3.dcm: give an empty folder")
    assert [file.name for file in (tmp_path / "output").iterdir()] == ["1.2.3.dcm"]


def test_the_sdk_s_own_operator_gives_the_same_seg(bundle_root, python, box, tmp_path):
    volume = make_case(tmp_path, box)
    output = run_app(python, Path(__file__).with_name("stock_app.py"), tmp_path, BUNDLE=str(bundle_root))
    same_masks(output, reference(volume))


def test_ct_series_is_refined_by_the_directory_bundle_with_another_organ(
    bundle_root, python, app, shared_data, tmp_path
):
    image, _ = cut_chest(shared_data / "thorax", tmp_path / "ct")
    volume = make_case(tmp_path, nib.load(image), "CT")
    expected = reference(volume, organ="thorax", preset="linear")
    settings = yaml.safe_load((app / "app.yaml").read_text())
    settings["inference"] |= {"organ": "thorax", "preset": "linear"}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    environment = {"HOLOSCAN_CONFIG_PATH": str(tmp_path / "settings.yaml")}
    output = run_app(python, app, tmp_path, "-m", str(bundle_root), **environment)
    seg = same_masks(output, expected)
    meanings = [s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for s in seg.SegmentSequence]
    assert meanings == ["Esophagus", "Heart", "Trachea", "Aorta"]
    for name in ("oesophagus", "heart", "trachea", "aorta"):
        same_mesh(output / f"{name}.stl", expected / f"case_{name}.stl")
