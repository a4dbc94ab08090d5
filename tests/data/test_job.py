"""Whole made-up downloads of every source: what is written, what is skipped, and what DATA.md says."""

import json

import nibabel as nib
import numpy as np
import pytest

from scripts.data import msd
from scripts.data.job import SOURCES, data
from scripts.data.lobes import lobe_labels
from scripts.organ.pack import OrganPack
from tests.helpers.abdomen_scan import scene
from tests.helpers.publishers import LPS, frame_lps, write_nrrd, write_series
from tests.helpers.volumes import AFFINES, blocks, save


def labels_1_2():
    return blocks()


def decathlon(folder, affine):
    for part, values in (("imagesTr", np.ones((12, 10, 8, 2), np.float32)), ("labelsTr", labels_1_2())):
        for name in ("x_001", "x_002"):
            save(folder / part / f"{name}.nii.gz", values, affine)
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("x_001", "x_002")]
    description = {"labels": {"0": "background", "1": "front", "2": "back"}, "training": pairs}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_decathlon(tmp_path, affine, link):
    task = decathlon(tmp_path / "Task00_Toy", affine)
    out = tmp_path / "out"
    assert "2 of 2 cases" in data("msd", str(task), str(out), link=link)
    for part, source in (("labels", "labelsTr"), ("images", "imagesTr")):
        for name in ("x_001", "x_002"):
            written = out / part / f"{name}.nii.gz"
            assert written.is_symlink() == link
            assert written.read_bytes() == (task / source / f"{name}.nii.gz").read_bytes()
    note = (out / "DATA.md").read_text()
    assert "CC BY-SA 4.0" in note and "1 front, 2 back" in note and "Antonelli" in note
    assert str(tmp_path) not in note
    data("msd", str(task), str(out), link=not link)
    assert (out / "labels" / "x_001.nii.gz").is_symlink() != link
    assert (task / "labelsTr" / "x_001.nii.gz").stat().st_size > 100


def test_linked_files_without_compression_keep_their_ending(tmp_path):
    save(tmp_path / "in" / "case_00000" / "segmentation.nii.gz", blocks())
    save(tmp_path / "in" / "case_00000" / "imaging.nii.gz", blocks().astype(np.float32))
    data("kits", str(tmp_path / "in"), str(tmp_path / "out"), link=True)
    assert (tmp_path / "out" / "images" / "case_00000.nii.gz").resolve().name == "imaging.nii.gz"


def test_kits_without_images(tmp_path):
    save(tmp_path / "in" / "case_00003" / "segmentation.nii.gz", blocks(), AFFINES["oblique"])
    data("kits", str(tmp_path / "in"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "labels" / "case_00003.nii.gz").is_file()
    assert not (tmp_path / "out" / "images").exists()
    assert "case_00003: no imaging.nii.gz" in (tmp_path / "out" / "DATA.md").read_text()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_cysts_of_kits_are_written_as_the_kidneys_pack_reads_them(tmp_path, affine, dtype):
    labels = blocks(dtype)
    labels[5, 3:5, 3:5] = 3
    save(tmp_path / "in" / "case_00000" / "segmentation.nii.gz", labels, affine)
    save(tmp_path / "in" / "case_00001" / "segmentation.nii.gz", blocks(dtype), affine)
    data("kits", str(tmp_path / "in"), str(tmp_path / "out"), link=True)
    cyst, plain = (tmp_path / "out" / "labels" / f"case_0000{n}.nii.gz" for n in (0, 1))
    assert plain.is_symlink() and not cyst.is_symlink()
    written = nib.load(cyst)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.where(labels == 3, 1, labels))
    np.testing.assert_array_equal(written.affine, nib.load(plain).affine)
    assert written.get_data_dtype() == dtype
    note = (tmp_path / "out" / "DATA.md").read_text()
    assert (
        "Labels: 1 kidney, 2 tumour\n" in note and "case_00000: no imaging.nii.gz; cyst (3) written as kidney" in note
    )
    pack = OrganPack.load("kidneys")
    assert set(SOURCES["kits"].labels) <= set(pack.labels) and pack.labels[1] == "kidney"
    assert pack.sources["nnunet"]["cyst"] == 1


def test_bad_cases_are_named_and_the_others_written(tmp_path, capsys):
    folder = tmp_path / "in"
    good = blocks()
    for number in range(1, 7):
        save(folder / f"Patient_0{number}" / "GT.nii.gz", good)
        save(folder / f"Patient_0{number}" / f"Patient_0{number}.nii.gz", good.astype(np.int16))
    save(folder / "Patient_02" / "GT.nii.gz", np.where(good == 2, 9, good))
    save(folder / "Patient_03" / "GT.nii.gz", np.zeros_like(good))
    save(folder / "Patient_04" / "Patient_04.nii.gz", good.astype(np.int16), AFFINES["flipped"])
    scan = folder / "Patient_05" / "Patient_05.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-30])
    (folder / "Patient_06" / "Patient_06.nii.gz").unlink()
    with pytest.raises(SystemExit) as stop:
        data("segthor", str(folder), str(tmp_path / "out"))
    assert stop.value.code == 1
    assert "1 of 6 cases" in capsys.readouterr().out
    for part in ("images", "labels"):
        assert [f.name for f in (tmp_path / "out" / part).iterdir()] == ["Patient_01.nii.gz"]
    note = (tmp_path / "out" / "DATA.md").read_text()
    for expected in ("Patient_02: .*[9]", "Patient_03: .*no label", "mm apart", "truncated", "Patient_06: "):
        assert all(word in note for word in expected.split(".*"))


def test_pancreas(tmp_path):
    organ, scan = scene()
    for number, seed in ((1, 0), (2, 3)):
        affine_lps = frame_lps(seed, (0.8, 0.8, 2.0))
        write_series(tmp_path / "in" / "Pancreas-CT" / f"PANCREAS_000{number}" / "study" / "series", scan, affine_lps)
        save(tmp_path / "in" / "labels" / f"label000{number}.nii.gz", np.flip(organ, 1), LPS @ affine_lps)
    data("pancreas", str(tmp_path / "in"), str(tmp_path / "out"))
    for number, seed in ((1, 0), (2, 3)):
        label, image = (nib.load(tmp_path / "out" / p / f"pancreas_000{number}.nii.gz") for p in ("labels", "images"))
        expected = LPS @ frame_lps(seed, (0.8, 0.8, 2.0))
        for volume in (label, image):
            np.testing.assert_allclose(volume.affine, expected, atol=1e-3)
        np.testing.assert_array_equal(np.asarray(label.dataobj), organ)
        np.testing.assert_array_equal(np.asarray(image.dataobj), scan)
    assert "pancreas_0001: label turned over front to back" in (tmp_path / "out" / "DATA.md").read_text()


def test_a_label_without_its_scan_is_skipped(tmp_path):
    save(tmp_path / "label0007.nii.gz", blocks())
    with pytest.raises(SystemExit):
        data("pancreas", str(tmp_path), str(tmp_path / "out"))
    assert "no DICOM folder PANCREAS_0007" in (tmp_path / "out" / "DATA.md").read_text()


def test_lobes(tmp_path):
    raw = np.zeros((10, 9, 8), np.int16)
    for lobe in range(5):
        raw[2 * lobe : 2 * lobe + 2, 2:6, 2:6] = lobe + 4
    raw[3, 2:6, 2:6] |= 512
    raw[0, 0, 0], raw[0, 0, 1] = 512, 1
    for seed in (0, 4):
        write_nrrd(tmp_path / "in" / f"scan{seed}.nrrd", raw, frame_lps(seed, (0.7, 0.8, 1.5)))
    data("lobes", str(tmp_path / "in"), str(tmp_path / "out"))
    for seed in (0, 4):
        image = nib.load(tmp_path / "out" / "labels" / f"scan{seed}.nii.gz")
        np.testing.assert_allclose(image.affine, LPS @ frame_lps(seed, (0.7, 0.8, 1.5)), atol=1e-4)
        values = np.asarray(image.dataobj)
        assert values.dtype == np.uint8
        assert [int(values[2 * lobe, 3, 3]) for lobe in range(5)] == [1, 2, 3, 4, 5]
        assert (values[3, 2:6, 2:6] == 2).all() and values[0, 0, 0] == values[0, 0, 1] == 0
        assert (values > 0).sum() == 10 * 16


def test_other_labels_are_no_lobes():
    with pytest.raises(ValueError, match=r"\[9\], which are no lobes"):
        lobe_labels(np.array([[[0, 4, 9]]], np.int16))
    with pytest.raises(ValueError, match="not whole numbers"):
        lobe_labels(np.array([[[0.0, 4.0]]]))
    np.testing.assert_array_equal(lobe_labels(np.array([[[0, 4, 8]]], np.uint8)), [[[0, 1, 5]]])


def test_download_asks_for_the_task_with_its_check_sum(tmp_path, monkeypatch):
    asked = {}

    def pretend(**options):
        asked.update(options)
        decathlon(options["output_dir"] / "Task04_Hippocampus", np.eye(4))

    monkeypatch.setattr(msd, "download_and_extract", pretend)
    data("msd", str(tmp_path / "in"), str(tmp_path / "out"), download="Task04_Hippocampus")
    assert asked["url"].endswith("Task04_Hippocampus.tar") and len(asked["hash_val"]) == 32
    assert asked["hash_type"] == "md5"
    assert (tmp_path / "out" / "labels" / "x_002.nii.gz").is_file()
    with pytest.raises(ValueError, match="no task 'Task99'"):
        data("msd", str(tmp_path / "in"), str(tmp_path / "out"), download="Task99")
    with pytest.raises(ValueError, match="only msd"):
        data("kits", str(tmp_path / "in"), str(tmp_path / "out"), download="Task04_Hippocampus")


@pytest.mark.parametrize("source", SOURCES)
def test_an_empty_folder_is_refused(tmp_path, source):
    with pytest.raises(ValueError, match="give"):
        data(source, str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown source 'litz'; there are msd"):
        data("litz", str(tmp_path), str(tmp_path / "out"))
