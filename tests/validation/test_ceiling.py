"""The ceiling of the packaged prior on its own mean shape, which it must describe, and on one which it cannot."""

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.sources import LabelSource
from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import OrganPack
from scripts.validation.ceiling import CODES, WEIGHTS, score_ceiling
from tests.helpers.mean_shape import CENTRE, KINDS, mean_shape


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    for kind in KINDS:
        labels, affine = mean_shape(kind)
        nib.save(nib.Nifti1Image(labels, affine), folder / f"{kind}.nii.gz")
    labels, affine = mean_shape("plain")
    points = WorldGrid(affine, labels.shape).points_world() - CENTRE
    cross = (np.abs(points) < 4).sum(axis=-1) >= 2
    labels = (cross & (np.abs(points).max(axis=-1) < 18)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), folder / "star.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros_like(labels), affine), folder / "void.nii.gz")
    speck = np.zeros_like(labels)
    speck[20, 20, 20:22] = 1
    nib.save(nib.Nifti1Image(speck, affine), folder / "speck.nii.gz")
    return score_ceiling(sorted(folder.iterdir()), LabelSource.of("hippocampus"))


def test_the_mean_shape_is_described_on_every_grid(rows):
    scores = {(row["case"], row["method"]): row for row in rows[0]}
    for kind in KINDS:
        for method in (CODES, WEIGHTS):
            assert scores[kind, method]["dsc"] > 95 and scores[kind, method]["assd_mm"] < 0.4
            assert scores[kind, method]["cd_floor"] < scores[kind, method]["cd"] < 3 * scores[kind, method]["cd_floor"]


def test_what_the_prior_cannot_describe_scores_low(rows):
    scores = {(row["case"], row["method"]): row["dsc"] for row in rows[0]}
    assert scores["star", CODES] < 80
    assert scores["star", CODES] < scores["star", WEIGHTS]
    distances = {(row["case"], row["method"]): row["cd"] for row in rows[0]}
    assert distances["star", CODES] > 3 * distances["plain", CODES]


def test_what_is_not_there_has_no_score_and_what_cannot_be_fitted_is_named(rows):
    assert {row["case"] for row in rows[0]} == {*KINDS, "star"}
    assert rows[1] == ["speck, hippocampus: hippocampus has only 2 voxels"]


def test_a_structure_is_fitted_with_its_own_settings(tmp_path):
    """Without a step of its codes, the fit of half an organ stays at its start, which the linear model gives."""
    own = OrganPack.load("hippocampus")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "hippocampus.safetensors").symlink_to(own.structures[0].prior)
    values = yaml.safe_load(own.file.read_text())
    values["structures"][0]["refine"] = {"code_steps": 0, "weight_steps": 0}
    (tmp_path / "pack" / "organ.yaml").write_text(yaml.safe_dump(values))
    truth, affine = mean_shape("plain")
    nib.save(nib.Nifti1Image(np.where(truth == 1, 1, 0).astype(np.uint8), affine), tmp_path / "half.nii.gz")
    scores = {}
    for organ in (tmp_path / "pack", own.folder):
        found, failures = score_ceiling([tmp_path / "half.nii.gz"], LabelSource.of(organ))
        scores[organ] = {row["method"]: row["dsc"] for row in found}
        assert failures == []
    still, fitted = scores.values()
    assert still[CODES] == still[WEIGHTS] < fitted[CODES] < fitted[WEIGHTS]
