"""From label maps to aligned samples: cached, resumable, in several processes, bad files named."""

import dataclasses
import logging

import nibabel as nib
import numpy as np
import pytest

from scripts.shapes import preparation
from scripts.shapes.anchor import choose_anchor
from scripts.shapes.label_surface import LabelSurface, extract_surface, list_sources, surface_key
from scripts.shapes.preparation import prepare
from scripts.shapes.samples import SampleSettings
from tests.helpers.ellipsoid_files import EGG, ellipsoid_mask, ellipsoid_radii, write_ellipsoids

SFORM_BYTES = slice(280, 284)  # of a NIfTI-1 header: the sform's first entry
SMALL = SampleSettings(n_surface=400, n_free=300, grid_size=12, box_points=2000, picct_points=150)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("labels"), ellipsoid_radii(4, seed=0))


def test_shapes_are_aligned_and_cached(files, tmp_path):
    first = prepare(files[:3], EGG, tmp_path, SMALL, files[3:])
    assert [shape.name for shape in first.train] == [f.name for f in files[:3]]
    assert [shape.name for shape in first.validation] == [files[3].name]
    assert not first.skipped and first.anchor_name in {f.name for f in files[:3]}
    assert 0.85 < np.linalg.norm(first.anchor_points, axis=1).max() <= 0.9 + 1e-9
    volumes_ml = [4 / 3 * np.pi * float(np.prod(radii)) / 1000.0 for radii in ellipsoid_radii(4, seed=0)[:3]]
    assert first.volumes_ml == pytest.approx(volumes_ml, rel=0.03)
    assert 11 < first.scale_mm < 20  # the farthest point, 14 mm off the centre or so, stands at 0.9
    for shape in first.train:
        assert np.linalg.norm(shape.surface[:, :3].mean(axis=0)) < 0.1
        outward = (shape.surface[:, :3] * shape.surface[:, 3:]).sum(axis=1)
        assert (outward > 0).mean() > 0.99
        assert shape.grid[6, 6, 6] < 0 < shape.grid[0, 0, 0]
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = prepare(files[:3], EGG, tmp_path, SMALL, files[3:])
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert again.data_hash == first.data_hash
    np.testing.assert_array_equal(again.grids, first.grids)
    assert prepare(files, EGG, tmp_path, SMALL).data_hash != first.data_hash


def write_bad(folder):
    """Label maps that cannot be used, name → (file, what the message says)."""
    folder.mkdir()
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    whole = ellipsoid_mask(np.array([10.0, 14.0, 12.0]))

    def write(name, values):
        nib.save(nib.Nifti1Image(values, affine), folder / name)

    (folder / "text.nii.gz").write_bytes(b"no image")
    write("cut_off.nii.gz", whole)
    data = (folder / "cut_off.nii.gz").read_bytes()
    (folder / "cut_off.nii.gz").write_bytes(data[: len(data) // 2])
    write("empty.nii.gz", np.zeros_like(whole))
    write("flat.nii.gz", whole[:, :, 10])
    write("channels.nii.gz", np.stack([whole, whole], axis=-1))
    write("nan.nii", whole)
    raw = bytearray((folder / "nan.nii").read_bytes())
    raw[SFORM_BYTES] = np.float32(np.nan).tobytes()
    (folder / "nan.nii").write_bytes(raw)
    tiny = np.zeros_like(whole)
    tiny[4:7, 4:7, 4:7] = 1
    write("tiny.nii.gz", tiny)
    return {
        "text.nii.gz": "",
        "cut_off.nii.gz": "",
        "empty.nii.gz": "holds none of the labels [1]",
        "flat.nii.gz": "has the shape (40, 40), not that of one 3D volume",
        "channels.nii.gz": "has the shape (40, 40, 20, 2), not that of one 3D volume",
        "nan.nii": "NaN",
        "tiny.nii.gz": "only 27 voxels",
    }


def test_bad_label_maps_are_named_and_skipped(files, tmp_path, caplog):
    expected = write_bad(tmp_path / "bad")
    bad = sorted((tmp_path / "bad").iterdir())
    with caplog.at_level(logging.WARNING):
        prepared = prepare([*bad, *files], EGG, tmp_path / "cache", SMALL)
    assert set(prepared.skipped) == set(expected) and len(prepared.train) == 4
    summary = caplog.records[-1].getMessage()
    assert summary.startswith("7 of 11 shapes are not used")
    for name, reason in expected.items():
        assert prepared.skipped[name] and reason in prepared.skipped[name] and name in summary
    with pytest.raises(ValueError, match="at least two usable shapes, not 1 of 8(.|\\n)*tiny.nii.gz: has only 27"):
        prepare([*bad, files[0]], EGG, tmp_path / "cache", SMALL)


def test_a_single_trailing_axis_is_no_fault(files, tmp_path):
    image = nib.load(files[0])
    longer = tmp_path / "longer.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine), longer)
    sources = list_sources([files[0], longer], EGG)
    surfaces = [extract_surface(source, surface_key(source, SMALL), tmp_path, SMALL) for source in sources]
    np.testing.assert_array_equal(surfaces[0].mesh.vertices, surfaces[1].mesh.vertices)


def test_an_interrupted_preparation_goes_on(files, tmp_path, monkeypatch):
    sample, done = preparation.sample_shape, []

    def interrupted(*args, **kwargs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args[1])
        return sample(*args, **kwargs)

    monkeypatch.setattr(preparation, "sample_shape", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(files, EGG, tmp_path, SMALL)
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert not [p for p in stamps if p.name.startswith(".")]
    again = []
    monkeypatch.setattr(preparation, "sample_shape", lambda *a, **k: (again.append(a[1]), sample(*a, **k))[1])
    prepared = prepare(files, EGG, tmp_path, SMALL)
    assert done == [f.name for f in files[:2]] and again == [f.name for f in files[2:]]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps and len(prepared.train) == 4


@pytest.mark.slow
def test_several_processes_give_the_same(files, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    one = prepare([broken, *files], EGG, tmp_path / "one", SMALL, workers=1)
    two = prepare([broken, *files], EGG, tmp_path / "two", SMALL, workers=2)
    assert one.data_hash == two.data_hash and one.anchor_name == two.anchor_name and one.skipped == two.skipped
    for a, b in zip(one.train, two.train, strict=True):
        np.testing.assert_array_equal(a.surface, b.surface)
        np.testing.assert_array_equal(a.free, b.free)
    names = [{p.name for p in (tmp_path / folder).iterdir()} for folder in ("one", "two")]
    assert names[0] == names[1]


def test_settings_change_what_is_redone(files, tmp_path):
    prepare(files, EGG, tmp_path, SMALL)
    before = {kind: len(list(tmp_path.glob(f"{kind}-*"))) for kind in ("surface", "align", "shape")}
    prepare(files, EGG, tmp_path, dataclasses.replace(SMALL, n_surface=401))
    after = {kind: len(list(tmp_path.glob(f"{kind}-*"))) for kind in ("surface", "align", "shape")}
    assert before == {"surface": 4, "align": 4, "shape": 4} and after == {"surface": 4, "align": 4, "shape": 8}


def test_the_anchor_is_the_medoid_or_the_case_named(tmp_path):
    """Ellipsoids along a line of elongations: the middle one is nearest to all others."""
    stretch = np.array([1.5, 0.75, 1.0, 1.25, 0.85])
    radii = np.array([10.0, 10.0, 10.0]) * np.stack([np.ones(5), stretch, np.ones(5)], axis=1)
    files = write_ellipsoids(tmp_path / "labels", radii)
    assert prepare(files, EGG, tmp_path / "cache", SMALL).anchor_name == "case_02.nii.gz"
    for name in ("case_00.nii.gz", "case_00"):
        chosen = prepare(files, EGG, tmp_path / "cache", SMALL, anchor=name)
        assert chosen.anchor_name == "case_00.nii.gz" and chosen.scale_mm == pytest.approx(15 / 0.9, rel=0.1)
    with pytest.raises(ValueError, match="--anchor case_9"):
        prepare(files, EGG, tmp_path / "cache", SMALL, anchor="case_9")


def test_a_cut_shape_is_anchor_only_if_all_are():
    def surface(value, cut):
        planes = np.zeros((1 if cut else 0, 4))
        return LabelSurface(str(value), "never", "", None, planes, 0.0, np.full(3, float(value)))  # type: ignore[arg-type]

    assert choose_anchor([surface(0, False), surface(2, True), surface(5, False), surface(4, False)]) == 3
    assert choose_anchor([surface(0, True), surface(2, True), surface(5, True)]) == 1


def test_a_side_that_is_always_mirrored_is_no_anchor_beside_the_other():
    def surface(value, mirror):
        planes = np.zeros((0, 4))
        return LabelSurface(str(value), mirror, "", None, planes, 0.0, np.full(3, float(value)))  # type: ignore[arg-type]

    both = [surface(0, "never"), surface(2, "always"), surface(3, "never"), surface(2.5, "always"), surface(9, "never")]
    assert choose_anchor(both) == choose_anchor(both, "3") == 2
    with pytest.raises(ValueError, match="--anchor 2: the pack always mirrors this side"):
        choose_anchor(both, "2")
    assert choose_anchor([surface(0, "always"), surface(2, "always"), surface(5, "always")]) == 1


def test_augmented_copies(files, tmp_path):
    settings = SampleSettings(**{**SMALL.__dict__, "mirror_augment": True, "deform_augment": 1})
    prepared = prepare(files[:2], EGG, tmp_path, settings, files[2:3])
    assert len(prepared.train) == 8 and sum(shape.original for shape in prepared.train) == 2
    assert len(prepared.validation) == 1
    plain, deformed = prepared.train[0], prepared.train[1]
    assert deformed.name == f"{plain.name}~deform1"
    change = np.abs(plain.grid - deformed.grid)
    assert 1e-3 < change.mean() < 0.1
    for shape in prepared.train:  # mirrored twins, too, point outwards
        assert ((shape.surface[:, :3] * shape.surface[:, 3:]).sum(axis=1) > 0).mean() > 0.97
