"""The outputs of other models, made up: folders as nnU-Net and TotalSegmentator leave them, on oblique grids too."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from tests.helpers.volumes import FLIPPED, OBLIQUE

LABELS = {1: "oesophagus", 2: "heart"}
SOURCES = {
    "totalsegmentator": {"esophagus": "oesophagus", 15: "oesophagus", 51: "heart"},
    "btcv": {5: "oesophagus"},
}
GRIDS = {"a": FLIPPED, "b": OBLIQUE}
CARET = (
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>\n{}\n'
    "</LabelTable><VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>\n              "
)


def write_pack(folder: Path, **settings) -> Path:
    """A pack of two organs."""
    structures = [{"name": name, "labels": [value]} for value, name in LABELS.items()]
    pack = {"name": "chest", "labels": LABELS, "structures": structures, "sources": SOURCES, **settings}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "organ.yaml").write_text(yaml.safe_dump(pack))
    return folder


def truth() -> np.ndarray:
    """Two organs with the pack's values, and a third one that the pack does not know, 9, beside the first."""
    labels = np.zeros((16, 14, 12), np.uint8)
    labels[2:6, 2:8, 2:9], labels[8:14, 3:11, 3:10] = 1, 2
    labels[2:6, 8:11, 2:9] = 9
    return labels


def relabelled(values: dict[int, int]) -> np.ndarray:
    """`truth` with other values: pack's → theirs."""
    labels = truth()
    return np.select([labels == ours for ours in values], list(values.values()), 0).astype(np.uint8)


def save(path: Path, labels: np.ndarray, affine: np.ndarray, extension: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(labels, affine)
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, extension.encode()))
    nib.save(image, path)
    return path


def write_nnunet(folder: Path, values: dict[int, int], labels: dict) -> Path:
    """Predictions with their json and other files."""
    for case, affine in GRIDS.items():
        save(folder / f"{case}.nii.gz", relabelled(values), affine)
        (folder / f"{case}.pkl").touch()
        (folder / f"{case}.npz").touch()
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    (folder / "plans.json").write_text("{}")
    (folder / "predict_from_raw_data_args.json").write_text("{}")
    return folder


def write_masks(folder: Path, inner: str = "") -> Path:
    """A folder a case, a binary mask a structure."""
    for case, affine in GRIDS.items():
        for name, value in {"esophagus": 1, "heart": 2, "spleen": 9, "liver": 8}.items():
            save(folder / case / inner / f"{name}.nii.gz", (truth() == value).astype(np.uint8), affine)
    return folder


def write_multilabel(folder: Path, named: bool = True) -> Path:
    """One file a case, its labels' names in the header."""
    names = {1: "spleen", 15: "esophagus", 51: "heart", 52: "aorta"}
    rows = "\n".join(
        f'<Label Key="{v}" Red="1" Green="0" Blue="0.5" Alpha="1"><![CDATA[{n}]]></Label>' for v, n in names.items()
    )
    for case, affine in GRIDS.items():
        save(folder / f"{case}.nii.gz", relabelled({1: 15, 2: 51, 9: 1}), affine, CARET.format(rows) if named else "")
    return folder
