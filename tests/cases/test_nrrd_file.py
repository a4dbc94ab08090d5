"""NRRD volumes in random directions and several spaces, as masks of 3D Slicer too."""

import nrrd
import numpy as np
import pytest
from monai.data import NrrdReader

from scripts.cases import errors, read, write
from scripts.cases.nrrd_file import read_nrrd, segment_names
from tests.helpers.publishers import LPS, frame_lps, marked, segments, write_nrrd
from tests.helpers.volumes import blocks


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "LAS"])
@pytest.mark.parametrize("seed, spacing_mm", [(0, (0.7, 0.7, 1.25)), (1, (0.6, 0.9, 2.0)), (2, (1, 1, 1))])
def test_marked_voxel_stands_in_its_place(tmp_path, seed, spacing_mm, space):
    affine_lps = frame_lps(seed, spacing_mm)
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), affine_lps, space)
    values, affine = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(values, marked())
    np.testing.assert_allclose(affine @ (7, 1, 3, 1), LPS @ affine_lps @ (7, 1, 3, 1), atol=1e-6)


def test_agrees_with_monai(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), frame_lps(4, (0.6, 0.9, 2.0)))
    reader = NrrdReader()
    theirs, meta = reader.get_data(reader.read(str(tmp_path / "a.nrrd")))
    values, affine = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(values, theirs)
    np.testing.assert_allclose(affine, meta["affine"], atol=1e-6)


def test_a_file_without_a_place_is_refused(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), frame_lps(0, (1, 1, 1)))
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "b.nrrd").write_bytes(content.replace(b"space: left-posterior-superior", b"space: scanner-xyz"))
    with pytest.raises(ValueError, match="b.nrrd does not say where.*scanner-xyz"):
        read_nrrd(tmp_path / "b.nrrd")
    (tmp_path / "c.nrrd").write_bytes(b"not a NRRD")
    with pytest.raises(ValueError, match="c.nrrd cannot be read"):
        read_nrrd(tmp_path / "c.nrrd")
    (tmp_path / "d.nrrd").write_bytes(content[: len(content) - 200])
    with pytest.raises(ValueError, match="d.nrrd cannot be read"):
        read_nrrd(tmp_path / "d.nrrd")


NAMES = {1: "Left Atrium", 2: "Segment_2"}


def test_segments_have_the_names_of_the_header(tmp_path):
    file = write_nrrd(tmp_path / "a.seg.nrrd", blocks(), frame_lps(1, (1, 1, 2)), **segments(NAMES))
    assert segment_names(file) == {1: ["Left Atrium"], 2: ["Segment_2"]}
    file = write_nrrd(file, blocks(), frame_lps(1, (1, 1, 2)), **segments({1: "Segment_1", 2: "Segment_2"}))
    assert segment_names(file) == {}  # what Slicer calls them says nothing
    assert segment_names(write_nrrd(tmp_path / "b.nrrd", blocks(), frame_lps(1, (1, 1, 2)))) == {}


@pytest.mark.parametrize("dtype", [np.uint8, ">i2", np.int64, np.float32])
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_label_map_comes_back_with_its_header_and_type(tmp_path, seed, space, dtype):
    frame = frame_lps(seed, (0.6, 0.9, 2.0))
    file = write_nrrd(tmp_path / "a.seg.nrrd", blocks(np.dtype(dtype)), frame, space, **segments(NAMES))
    labels, affine = read.read_labels(file)
    np.testing.assert_array_equal(labels, blocks())
    np.testing.assert_allclose(affine, LPS @ frame, atol=1e-6)
    changed = labels.copy()
    changed[10:, 5, 5] = 1
    for name in ("b", "c"):
        write.write_label_map(tmp_path / f"{name}.seg.nrrd", changed, file)
    assert (tmp_path / "b.seg.nrrd").read_bytes() == (tmp_path / "c.seg.nrrd").read_bytes()
    (before, header), (after, written) = nrrd.read(str(file)), nrrd.read(str(tmp_path / "b.seg.nrrd"))
    np.testing.assert_array_equal(after, changed)
    assert after.dtype == before.dtype and list(written) == list(header)
    for key, value in header.items():
        wanted = "0 11 0 9 0 7" if key.endswith("_Extent") else value
        np.testing.assert_array_equal(written[key], wanted)


def test_one_layer_is_read_and_written_and_several_are_refused_with_the_remedy(tmp_path):
    frame = frame_lps(2, (1, 1, 2))
    step = np.vstack([[np.nan] * 3, frame[:3, :3].T])
    header = {"space": "LPS", "space directions": step, "space origin": frame[:3, 3], **segments(NAMES)}
    nrrd.write(str(tmp_path / "a.seg.nrrd"), blocks()[None], header)
    labels, affine = read.read_labels(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(labels, blocks())
    np.testing.assert_allclose(affine, LPS @ frame, atol=1e-6)
    write.write_label_map(tmp_path / "b.seg.nrrd", labels, tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(nrrd.read(str(tmp_path / "b.seg.nrrd"))[0], blocks()[None])
    nrrd.write(str(tmp_path / "a.seg.nrrd"), np.stack([blocks()] * 2), header)
    with pytest.raises(errors.UnrefinableCase, match="a.seg.nrrd has segments that overlap, in 2 layers: export"):
        read.read_labels(tmp_path / "a.seg.nrrd")


def test_a_broken_file_is_named_with_the_remedy(tmp_path):
    content = write_nrrd(tmp_path / "a.nrrd", blocks(), frame_lps(0, (1, 1, 1))).read_bytes()
    for broken in (b"", b"NRRD0005\n", b"no NRRD", content[:-40], content.replace(b"sizes: 12", b"sizes: 99")):
        (tmp_path / "b.seg.nrrd").write_bytes(broken)
        with pytest.raises(errors.UnreadableCase, match="b.seg.nrrd.*(again|one volume a file)"):
            read.read_labels(tmp_path / "b.seg.nrrd")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"line skip: 1000000000000", "skips more than the file has"),
        (b"byte skip: 1000000000000", "skips more than the file has"),
        (b"data file: /etc/hostname", "lie in another file"),
        (b"datafile: other.raw", "lie in another file"),
        (b"sizes: 30000 30000 30000", "truncated"),
        (b"space origin: (nan,0,0)", "NaN.*repair the header"),
        (b"space directions: (1,0,0) none (0,0,1)", "repair the header"),
        (b"space directions: (0,0,0) (0,1,0) (0,0,1)", "singular.*repair the header"),
        (b"encoding: rot13", "Unsupported encoding"),
        (b"type: text", "cannot be read as NRRD"),
    ],
)
def test_headers_that_lead_nowhere_are_refused_in_a_line(tmp_path, line, said):
    write_nrrd(tmp_path / "a.nrrd", marked().astype(np.int16), frame_lps(0, (1, 1, 1)))
    head, _, data = (tmp_path / "a.nrrd").read_bytes().partition(b"\n\n")
    kept = [one for one in head.split(b"\n") if not one.startswith(line.split(b":")[0] + b":")]
    (tmp_path / "a.nrrd").write_bytes(b"\n".join([*kept, line]) + b"\n\n" + data)
    with pytest.raises(ValueError, match=f"a.nrrd.*{said}") as refused:
        read_nrrd(tmp_path / "a.nrrd")
    assert "\n" not in str(refused.value)
