"""The label of a study: which file is taken, and that it lies on the image's grid."""

import numpy as np
import pytest
import torch

from scripts.cases.current_label import CurrentLabeld, sent_label, stored_label
from scripts.cases.errors import UnreadableCase, UnrefinableCase
from scripts.cases.read import read_volume
from scripts.unet.network import NoNetworkInferer
from tests.helpers.volumes import AFFINES, OBLIQUE, blocks, save


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_label_sent_comes_before_the_stored_one(tmp_path, affine):
    image = read_volume(save(tmp_path / "a.nii.gz", blocks(np.float32), affine))
    save(tmp_path / "labels" / "final" / "a.nii.gz", blocks(), affine)
    sent = save(tmp_path / "sent.nii.gz", np.minimum(blocks(), 1), affine)
    for request, expected in (({}, blocks()), ({"label": ""}, blocks()), ({"label": str(sent)}, blocks().clip(0, 1))):
        pred = CurrentLabeld()({"image": image, **request})["pred"]
        assert pred.dtype == torch.int32 and pred.shape == image.shape
        np.testing.assert_array_equal(pred[0], expected)
        np.testing.assert_allclose(pred.affine, affine, atol=1e-6)


def test_stored_label_has_the_image_name_and_any_nifti_ending(tmp_path):
    label = save(tmp_path / "labels" / "final" / "a.b.nii", blocks())
    assert stored_label(tmp_path / "a.b.nii.gz") == label
    scan = save(tmp_path / "labels" / "final" / "scan.nii.gz", blocks())
    assert stored_label(tmp_path / "scan.nrrd") == scan
    with pytest.raises(UnreadableCase, match="no current label .*final/c.nii.gz: submit one"):
        stored_label(tmp_path / "c.nii.gz")


def test_label_that_is_not_of_the_study_is_not_read(tmp_path, monkeypatch):
    image = tmp_path / "study" / "a.nii.gz"
    inside, outside = save(image.parent / "drawn" / "b.nii.gz", blocks()), save(tmp_path / "b.nii.gz", blocks())
    uploads = tmp_path / "uploads"
    monkeypatch.setattr("tempfile.tempdir", str(uploads))
    (link := image.parent / "link.nii.gz").symlink_to(outside)
    assert sent_label(str(inside), image) == inside
    assert sent_label(str(uploads / "tmpab12.nii.gz"), image) == uploads / "tmpab12.nii.gz"
    escape = image.parent / ".." / "b.nii.gz"
    for label in (outside, link, escape, "/etc/passwd", uploads / "other.nii.gz", uploads / "x" / "tmpa.nii.gz"):
        with pytest.raises(UnreadableCase, match="^label: .* is not in the study's folder"):
            sent_label(str(label), image)
    for value in ({"_target_": "os.getcwd"}, 3, "a\0b"):
        with pytest.raises(UnreadableCase, match="^label: "):
            sent_label(value, image)
    with pytest.raises(UnreadableCase, match="^label: "):  # an image that was sent has no folder of its own
        sent_label(str(uploads / "other.nii.gz"), uploads / "tmpimage.nii.gz")


@pytest.mark.parametrize("grid", ["shape", "affine"])
def test_label_on_another_grid_is_refused(tmp_path, grid):
    image = read_volume(save(tmp_path / "a.nii.gz", blocks(np.float32)))
    values = blocks()[1:] if grid == "shape" else blocks()
    label = save(tmp_path / "label.nii.gz", values, OBLIQUE if grid == "affine" else np.eye(4))
    with pytest.raises(UnrefinableCase, match="label.nii.gz of shape .* is not on the grid of .*a.nii.gz"):
        CurrentLabeld()({"image": image, "label": str(label)})


def test_label_that_was_sent_is_not_called_by_the_name_of_the_upload(tmp_path, monkeypatch):
    """A host keeps what is sent as tmp….nii.gz; who sent it does not know that name."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(uploads))
    image = read_volume(save(tmp_path / "study" / "a.nii.gz", blocks(), OBLIQUE))
    sent = save(uploads / "tmpq1x2.nii.gz", blocks()[:-1], OBLIQUE)
    with pytest.raises(UnrefinableCase, match="^the label that was sent of shape .* is not on the grid of"):
        CurrentLabeld()({"image": image, "label": str(sent)})
    sent.write_bytes(sent.read_bytes()[:80])
    with pytest.raises(UnreadableCase, match="^the label that was sent cannot be read") as refused:
        CurrentLabeld()({"image": image, "label": str(sent)})
    assert "tmpq1x2" not in str(refused.value) and refused.value.status_code == 422


def test_no_network_is_applied():
    image = torch.rand(1, 1, 3, 4, 5)
    assert NoNetworkInferer()(image, lambda x: x / 0) is image
