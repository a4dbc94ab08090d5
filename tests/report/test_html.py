"""The page: what is packed comes back, texts cannot break it, and its failure breaks nothing."""

import base64
import gzip
import io
import json
import logging
import re
import struct

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from scripts.report import case_page, html, job
from scripts.report.case_page import load_case
from scripts.report.html import pack, try_page
from scripts.report.run_folder import Run
from scripts.report.surfaces import INITIAL, REFINED
from tests.helpers.made_run import write_crowd, write_run
from tests.helpers.volumes import AFFINES, OBLIQUE


def unpack(text):
    """Decode a case as the page does: its header, and a function from an array's place to the array."""
    block = gzip.decompress(base64.b64decode(text))
    (length,) = struct.unpack("<I", block[:4])

    def array(place):
        start = 4 + length + place["offset"]
        assert start % 8 == 0
        return np.frombuffer(block, np.dtype(place["type"]), place["length"], start)

    return json.loads(block[4 : 4 + length]), array


def texts_of(page, kind):
    return re.findall(rf'<script type="{kind}"[^>]*>(.*?)</script>', page, re.DOTALL)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_what_is_packed_comes_back(tmp_path, affine):
    run = Run.open(write_run(tmp_path, affine), tmp_path / "truth")
    page = load_case(run, run.report["cases"][0])
    header, array = unpack(pack(page))
    volumes = header["volumes"]
    for stage, values in page.slices.labels.items():
        found = array(volumes["labels"][stage]).reshape(volumes["shape"], order="F")
        np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(np.array(volumes["toVoxel"]) @ page.slices.affine, np.eye(4), atol=1e-9)
    changed = page.slices.labels[INITIAL] != page.slices.labels[REFINED]
    for axis, start in enumerate(volumes["start"]):
        assert np.take(changed, start, axis).sum() == changed.sum(axis=tuple({0, 1, 2} - {axis})).max()
    tilt = np.degrees(
        np.arccos(np.diag(page.slices.affine[:3, :3] / np.linalg.norm(page.slices.affine[:3, :3], axis=0)))
    )
    assert volumes["tilt"] == pytest.approx(tilt.max())
    image = volumes["image"]
    nx, ny, nz = image["shape"]
    for z in range(nz):
        sheet = np.asarray(Image.open(io.BytesIO(array(image["sheets"][0]).tobytes())).convert("L")).astype(int)
        top, left = z // image["columns"] * ny, z % image["columns"] * nx
        tile = sheet[top : top + ny, left : left + nx].T
        assert np.abs(tile - page.slices.image[:, :, z].astype(int)).mean() < 8
    kept = [surface for structure in page.structures for surface in structure.surfaces]
    assert len(kept) == len(header["surfaces"]) == 9
    for packed, surface in zip(header["surfaces"], kept, strict=True):
        vertices = np.array(packed["origin"]) + np.array(packed["unit"]) * array(packed["vertices"]).reshape(-1, 3)
        np.testing.assert_allclose(vertices, surface.vertices_world, atol=1e-3)
        np.testing.assert_array_equal(array(packed["faces"]).reshape(-1, 3), surface.faces)
        for key, distance in (("moved", surface.moved_mm), ("error", surface.error_mm)):
            assert (key in packed) == (distance is not None)
            if key in packed:
                np.testing.assert_allclose(array(packed[key]) / 100, distance, atol=0.0051)


def test_page_is_whole_self_contained_and_the_same_again(tmp_path):
    folder = write_run(tmp_path, OBLIQUE)
    path = html.write_page(Run.open(folder))
    page = path.read_text()
    assert sorted(p.name for p in folder.iterdir()) == ["a", "report.html", "report.json"]
    assert "{{" not in page.split("<script>")[0] and page.rstrip().endswith("</html>")
    assert not re.search(r'(src|href)="(?!data:)', page.split("<script>")[0])
    (text,) = texts_of(page, "application/json")
    run = json.loads(text)
    assert "<b>" not in text and run["cases"][0]["structures"][0]["regions"][0]["reason"].count("<b>") == 1
    assert [c["name"] for c in run["cases"]] == ["a", "b"] and len(texts_of(page, "text/plain")) == 1
    assert ["licence", "CC BY-NC 4.0"] in run["provenance"] and run["provenance"][-1][0] == "use"
    assert [s["numbers"] for s in run["structures"]] == [[1], [2], [3]]
    html.write_page(Run.open(folder))
    assert path.read_text() == page


def test_of_a_mask_that_was_not_changed_no_surface_moved(tmp_path):
    folder = write_run(tmp_path, OBLIQUE)
    (folder / "a" / "a_refined.nii.gz").write_bytes((folder / "a" / "a_initial.nii.gz").read_bytes())
    run = Run.open(folder)
    for structure in load_case(run, run.report["cases"][0]).structures:
        assert structure.words[0] == "No voxel was changed." and not any("moved" in word for word in structure.words)
        assert structure.figures["moved_max_mm"] < 0.01
        assert all(np.abs(s.moved_mm).max() < 0.3 for s in structure.surfaces if s.stage != "truth")  # thinned out


def test_cases_beyond_the_room_keep_their_figures(tmp_path, monkeypatch):
    folder = write_run(tmp_path, OBLIQUE)
    monkeypatch.setattr(html, "PICTURES_MB", 0.001)
    page = html.write_page(Run.open(folder)).read_text()
    (case, _) = json.loads(texts_of(page, "application/json")[0])["cases"]
    assert texts_of(page, "text/plain") == [] and "too large" in case["notes"][0]
    assert case["structures"][0]["figures"]["pieces_refined"] == 1


def test_so_many_cases_are_drawn_as_were_asked_for_and_the_worst_first(tmp_path):
    folder = write_crowd(tmp_path, OBLIQUE, {"c": 90.0, "d": 80.0, "e": 70.0})
    job.report(str(folder), html_cases=3)  # the failed case is one of them
    page = (folder / "report.html").read_text()
    run = json.loads(texts_of(page, "application/json")[0])
    assert run["order"] == [3, 2, 1, 0] and re.findall(r'id="payload-(\d)"', page) == ["2", "1"]
    spared, drawn = run["cases"][0], run["cases"][2]
    assert spared["notes"] == ["Not drawn: html_cases asks for 3 cases, and worse ones come first."]
    assert drawn["notes"] == []
    assert spared["thumbnail"] == drawn["thumbnail"] and spared["thumbnail"].startswith("data:image/webp")
    ball, whole = (case["structures"][0]["figures"] for case in (spared, drawn))
    assert ball.items() <= whole.items() and "moved_mean_mm" not in ball and "moved_mean_mm" in whole
    for wrong in (-1, True, 2.5):
        with pytest.raises(ValueError, match="html_cases must be a whole number"):
            job.report(str(folder), html_cases=wrong)


@pytest.mark.parametrize("step", ["_slices", "_show_structure", "_read_masks"])
@pytest.mark.parametrize("error", [MemoryError(), IndexError("odd"), ValueError("odd")])
def test_a_case_that_cannot_be_drawn_is_shown_with_its_reason(tmp_path, monkeypatch, step, error):
    folder = write_run(tmp_path, OBLIQUE)
    report = json.loads((folder / "report.json").read_text())
    odd, other = report["cases"][0] | {"case": "odd"}, report["cases"][0]
    (folder / "report.json").write_text(json.dumps(report | {"cases": [odd, other]}))
    (folder / "odd").symlink_to(folder / "a")
    works = getattr(case_page, step)

    def broken(run, page, *rest):
        if page.name == "odd":
            raise error
        return works(run, page, *rest)

    monkeypatch.setattr(case_page, step, broken)
    page = html.write_page(Run.open(folder)).read_text()
    odd, other = json.loads(texts_of(page, "application/json")[0])["cases"]
    assert odd["notes"] == [str(error) or "MemoryError"] and other["notes"] == []
    assert len(texts_of(page, "text/plain")) == 1 and odd["structures"][0]["name"] == "ball"


def test_a_case_that_cannot_be_packed_is_shown_with_its_reason(tmp_path, monkeypatch):
    folder = write_run(tmp_path, OBLIQUE)

    def broken(*given):
        raise OSError("encoder error -5")

    monkeypatch.setattr(html, "_pack_image", broken)
    page = html.write_page(Run.open(folder)).read_text()
    (case, _) = json.loads(texts_of(page, "application/json")[0])["cases"]
    assert case["notes"] == ["Not drawn: encoder error -5"] and texts_of(page, "text/plain") == []


def test_failure_is_logged_and_nothing_is_left(tmp_path, monkeypatch, caplog):
    folder = write_run(tmp_path, OBLIQUE)

    def broken(described, payloads):
        raise KeyError("made to fail")

    monkeypatch.setattr(html, "render", broken)
    with caplog.at_level(logging.ERROR):
        assert try_page(folder) is None
    assert "made to fail" in caplog.text and "results are complete" in caplog.text
    assert sorted(p.name for p in folder.iterdir()) == ["a", "report.json"]


def test_report_command_remakes_the_page_with_truth_and_draws_pictures(tmp_path):
    folder = write_run(tmp_path, OBLIQUE)
    path = job.report(str(folder), label_dir=str(tmp_path / "truth"), png=True)
    (case, _) = json.loads(texts_of((folder / "report.html").read_text(), "application/json")[0])["cases"]
    assert path == str(folder / "report.html") and case["structures"][0]["figures"]["dsc_refined"] == 100
    pictures = sorted((folder / "a").glob("*.png"))
    assert [p.name for p in pictures] == ["a_ball.png", "a_egg.png", "a_pill.png"]
    picture = imread(pictures[0])[..., :3]
    assert (picture[..., 2] > picture[..., 0] + 0.2).mean() > 0.005  # the initial ball is too small: blue
    with pytest.raises(ValueError, match="holds no report.json"):
        job.report(str(tmp_path))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        job.report(str(folder), label_dir=str(tmp_path / "nowhere"))
