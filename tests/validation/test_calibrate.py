"""Intervals of one's own cases: what they are made of, and when nothing is promised."""

import numpy as np
import pytest

from scripts.organ.pack import OrganPack
from scripts.organ.places import CALIBRATION_FILES, QUALITY_FILES
from scripts.quality.predictor import TARGETS
from scripts.validation.calibrate import _told_by, calibrate, calibration_of
from tests.quality.test_predictor import made
from tests.training.test_quality import examples


def test_the_widths_hold_the_known_masks():
    predictor, known = made(), examples(30)
    found = calibration_of(known, predictor, "masks of mine")
    assert (found.patients, found.made_of, found.promise) == (30, "masks of mine", 0.9)
    mean, spread = predictor.raw(np.stack([e.features for e in known]))
    away = np.abs(np.array([e.targets for e in known]) - mean) / spread
    for n, target in enumerate(TARGETS):
        assert 0.9 <= (away[:, n] <= found.widths[target]).mean() < 1.0


def test_eight_patients_are_too_few():
    with pytest.raises(ValueError, match="8 patients cannot carry an interval of 90 %"):
        calibration_of(examples(8), made(), "")


def test_few_or_known_label_maps_are_refused_before_anything_runs(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(
        ValueError, match="3 label maps in .*: an interval that holds 90 % of new masks takes at least 9"
    ):
        calibrate("hippocampus", str(tmp_path), mask_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    pack = OrganPack.load("hippocampus")
    (tmp_path / pack.split["train"][0]).touch()
    with pytest.raises(ValueError, match="the prior of 'hippocampus' was trained on "):
        calibrate("hippocampus", str(tmp_path), mask_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not any((pack.folder / name).exists() for name in CALIBRATION_FILES.values())


def test_images_count_where_the_pack_can_read_them(tmp_path, monkeypatch):
    reads, blind = OrganPack.load("hippocampus"), OrganPack.load("liver")
    (tmp_path / "image.safetensors").touch()
    monkeypatch.setitem(QUALITY_FILES, "image", tmp_path / "image.safetensors")
    assert [_told_by(reads, "images"), _told_by(reads, ""), _told_by(blind, "images")] == ["image", "fit", "fit"]
    (tmp_path / "image.safetensors").unlink()
    assert _told_by(reads, "images") == "fit"
