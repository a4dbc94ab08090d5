"""What the page shows: distances of known shapes, crops that stay in place, words, and runs that were moved."""

import json

import numpy as np
import pytest
import trimesh

from scripts.cases.errors import UnreadableCase
from scripts.geometry.affine import apply_affine, spacing_mm
from scripts.report.case_page import load_case
from scripts.report.crops import Crop, shown_image
from scripts.report.run_folder import Run, RunError
from scripts.report.surfaces import INITIAL, REFINED, STAGES, TRUTH, display_surfaces, moved_figures
from scripts.report.words import flags, provenance_lines, sentences, topology_figures, volume_figures
from tests.helpers import pairs
from tests.helpers.made_run import CENTRES, NAMES, RADII, middle_of, place_colours, write_run
from tests.helpers.volumes import AFFINES, OBLIQUE, save

BOTH = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)


def sphere(radius, subdivisions=4):
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def ball(shape, centre, radius_mm, affine):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return np.linalg.norm(apply_affine(affine, index.reshape(-1, 3)) - centre, axis=1).reshape(shape) <= radius_mm


def by_stage(surfaces):
    return {surface.stage: surface for surface in surfaces}


def test_colours_of_concentric_spheres():
    meshes = {INITIAL: sphere(10.0), REFINED: sphere(12.0), TRUTH: sphere(11.0)}
    found = by_stage(display_surfaces(meshes, face_count=2000))
    assert list(found) == list(STAGES) and all(len(s.faces) <= 2001 for s in found.values())
    for stage, radius in ((INITIAL, 10.0), (REFINED, 12.0), (TRUTH, 11.0)):
        np.testing.assert_allclose(np.linalg.norm(found[stage].vertices_world, axis=1), radius, atol=0.1)
    np.testing.assert_allclose(found[INITIAL].moved_mm, 2.0, atol=0.1)  # both say: 2 mm outward
    np.testing.assert_allclose(found[REFINED].moved_mm, 2.0, atol=0.1)
    np.testing.assert_allclose(found[INITIAL].error_mm, -1.0, atol=0.1)
    np.testing.assert_allclose(found[REFINED].error_mm, 1.0, atol=0.1)
    assert found[TRUTH].moved_mm is None and found[TRUTH].error_mm is None
    shrunk = by_stage(display_surfaces({INITIAL: sphere(12.0), REFINED: sphere(10.0)}))
    assert all(-2.1 < s.moved_mm.mean() < -1.9 and s.error_mm is None for s in shrunk.values())
    figures = moved_figures(meshes[INITIAL], meshes[REFINED])
    assert figures["moved_mean_mm"] == pytest.approx(2.0, abs=0.02) and figures["moved_max_mm"] < 2.05


def test_one_surface_alone_has_no_distances():
    (only,) = display_surfaces({INITIAL: sphere(3.0), REFINED: None})
    assert only.stage == INITIAL and only.moved_mm is None and moved_figures(sphere(3.0), None) == {}


@BOTH
def test_crop_stays_in_place_and_turns_to_the_body(affine):
    labels = np.random.default_rng(0).integers(0, 4, (14, 17, 12)).astype(np.uint8)
    labels[:4] = labels[11:] = 0
    labels[:, :5] = labels[:, 15:] = 0
    crop = Crop.around({"a": labels, "b": labels * 0}, affine, margin_mm=2.0)
    assert (np.diag(crop.affine)[:3] > 0).all() and (np.abs(crop.affine[:3, :3]).argmax(axis=0) == np.arange(3)).all()
    part = crop.of(labels)
    assert part.shape == crop.shape and (part > 0).sum() == (labels > 0).sum()
    for value in (1, 2, 3):
        before = apply_affine(affine, np.argwhere(labels == value))
        after = apply_affine(crop.affine, np.argwhere(part == value))
        np.testing.assert_allclose(
            after[np.lexsort(after.round(3).T)], before[np.lexsort(before.round(3).T)], atol=1e-6
        )
    margin = np.ceil(2.0 / spacing_mm(affine)).astype(int)
    assert crop.box[0] == slice(4 - margin[0], 11 + margin[0])


def test_crop_of_nothing():
    with pytest.raises(ValueError, match="every mask is empty"):
        Crop.around({"a": np.zeros((3, 3, 3))}, np.eye(4))


@BOTH
def test_image_on_any_grid_is_shown_where_it_belongs(tmp_path, affine):
    """Linear interpolation reproduces a ramp exactly, so each voxel must have its own world coordinate's value."""
    mask = ball((20, 20, 20), apply_affine(affine, np.full((1, 3), 9.5))[0], 6.0, affine)
    crop = Crop.around({"a": mask}, affine, margin_mm=1.0)
    corners = apply_affine(crop.affine, np.argwhere(np.ones((2, 2, 2))) * (np.array(crop.shape) - 1))
    other = OBLIQUE.copy()
    other[:3, 3] = corners.mean(0) - OBLIQUE[:3, :3] @ np.full(3, 29.5)
    for grid, size in ((affine, (20, 20, 20)), (other, (60, 60, 60))):
        index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
        world = index @ grid[:3, :3].T + grid[:3, 3]
        path = save(tmp_path / "image.nii.gz", (world @ (1.0, -2.0, 0.5)).astype(np.float32), grid)
        wanted = np.argwhere(np.ones(crop.shape)) @ crop.affine[:3, :3].T + crop.affine[:3, 3]
        np.testing.assert_allclose(crop.image(path).ravel(), wanted @ (1.0, -2.0, 0.5), atol=0.02)
    far = affine.copy()
    far[:3, 3] += 1000
    assert crop.image(save(tmp_path / "far.nii.gz", np.zeros((5, 5, 5)), far)) is None
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableCase, match="image.nii.gz"):
        crop.image(path)


def test_large_images_are_averaged_over_blocks_of_their_finest_axes():
    image = np.arange(5 * 4 * 3, dtype=float).reshape(5, 4, 3)
    grey, step = shown_image(image, np.array([1.0, 2.0, 4.0]), limit=36)
    low, high = np.percentile(image, [1, 99.5])
    scaled = np.clip((image - low) / (high - low), 0, 1) * 255
    assert step == [2, 1, 1] and grey.shape == (3, 4, 3) and grey.dtype == np.uint8
    np.testing.assert_allclose(grey[1], scaled[2:4].mean(0), atol=0.51)
    np.testing.assert_allclose(grey[2], scaled[4], atol=0.51)  # the last block holds one voxel only
    assert shown_image(image, np.ones(3))[1] == [1, 1, 1]


@pytest.mark.parametrize("shape", [(1, 1, 20_000), (9000, 2, 3), (5, 5, 3)])
@pytest.mark.parametrize("spacing", [(1e-6, 1.0, 1e6), (1.0, 1.0, 1.0)])
def test_pictures_of_odd_grids_have_an_end(shape, spacing):
    grey, step = shown_image(np.zeros(shape), np.array(spacing), limit=50)
    assert grey.size <= 50 and list(grey.shape) == [-(-n // s) for n, s in zip(shape, step, strict=True)]
    grey, step = shown_image(np.zeros(shape), np.array(spacing))
    assert max(grey.shape) <= 4096


@BOTH
def test_a_case_of_three_labels(tmp_path, affine):
    run = Run.open(write_run(tmp_path, affine), tmp_path / "truth")
    page = load_case(run, run.report["cases"][0])
    assert [s.name for s in page.structures] == list(NAMES.values()) and page.notes == []
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    for (label, name), structure in zip(NAMES.items(), page.structures, strict=True):
        found = by_stage(structure.surfaces)
        assert set(found) == set(STAGES)
        assert np.median(found[REFINED].moved_mm) == pytest.approx(2.0, abs=0.35)
        assert np.median(found[INITIAL].moved_mm) == pytest.approx(2.0, abs=0.35)
        assert np.median(found[INITIAL].error_mm) == pytest.approx(-2.0, abs=0.35)
        assert np.median(found[REFINED].error_mm) == pytest.approx(0.0, abs=0.35)
        offset = found[REFINED].vertices_world - middle_of(affine) - CENTRES[label]
        np.testing.assert_allclose(np.abs(offset).max(0), np.array(RADII[label]) + 2, atol=0.1)
        grown = np.prod(np.array(RADII[label]) + 2.0) * 4 / 3 * np.pi / 1000
        assert structure.figures["volume_refined_ml"] == pytest.approx(grown, rel=0.1)
        assert structure.figures["dsc_refined"] == 100 and structure.figures["dsc_initial"] < 80, name
    ball_, _, pill = page.structures
    assert ball_.figures["pieces_initial"] == 2 and ball_.figures["pieces_removed"] == 1
    assert (ball_.figures["holes_initial"], ball_.figures["holes_refined"]) == (1, 0)
    assert ball_.figures["second_reader_dice"] == 0.93 and "second_reader_dice" not in pill.figures
    assert "2 pieces became 1, 1 piece removed." in ball_.words and "1 of 1 hole filled." in ball_.words
    assert page.totals == {"accepted": 1, "refused": 1, "accepted_ml": 1.2345, "refused_ml": 1.2345}
    colours = by_stage(pill.surfaces)[REFINED]
    heights = colours.vertices_world - middle_of(affine) - CENTRES[3]
    difference = colours.place_rgb.astype(int) - place_colours(heights)[:, :3]
    assert np.abs(difference).max() <= 12 and by_stage(ball_.surfaces)[REFINED].place_rgb is None
    high = np.abs(heights[:, 2]) > 1.0  # clear of the middle
    np.testing.assert_array_equal(colours.uncertainty_mm[high], np.where(heights[high, 2] > 0, 2.0, 1.0))
    assert by_stage(pill.surfaces)[INITIAL].uncertainty_mm is None
    for stage, values in page.slices.labels.items():
        assert values.shape == page.slices.image.shape == page.slices.labels[TRUTH].shape
        counted = np.count_nonzero(values == 3) * voxel_ml
        assert counted == pytest.approx(pill.figures[f"volume_{'initial' if stage == INITIAL else 'refined'}_ml"])
    bright = page.slices.image[page.slices.labels[REFINED] == 3].mean()
    assert bright > page.slices.image[page.slices.labels[REFINED] == 1].mean() + 50


def test_a_run_without_organ_truth_and_images_is_shown_all_the_same(tmp_path):
    folder = write_run(tmp_path, OBLIQUE, organ=False, relative=True)
    (tmp_path / "images" / "a.nii.gz").unlink()
    folder = folder.rename(tmp_path / "moved")
    run = Run.open(folder)
    assert [s.name for s in run.structures] == ["label_1", "label_2", "label_3"] and "gone" in run.provenance[0][1]
    page = load_case(run, run.report["cases"][0])
    assert page.slices.image is None and all(len(s.surfaces) == 2 for s in page.structures)
    failed = load_case(run, run.report["cases"][1])
    assert failed.slices is None and "No mask of this case" in failed.notes[0] and failed.flags == [["bad", "failed"]]


def test_truth_on_another_grid_and_broken_images_are_left_out_and_noted(tmp_path):
    folder = write_run(tmp_path, OBLIQUE)
    save(tmp_path / "truth" / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"broken")
    run = Run.open(folder, tmp_path / "truth", tmp_path / "images")
    page = load_case(run, run.report["cases"][0])
    assert "another grid" in page.notes[0] and "Image not shown" in page.notes[1]
    assert set(page.slices.labels) == {INITIAL, REFINED} and page.slices.image is None
    (folder / "a" / "a_refined.nii.gz").unlink()
    page = load_case(run, run.report["cases"][0])
    assert set(page.slices.labels) == {INITIAL} and page.structures[0].words == []


def test_no_run(tmp_path):
    with pytest.raises(RunError, match=r"holds no report\.json: give the output folder of a job"):
        Run.open(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"cases": 1}))
    with pytest.raises(RunError, match=r"report\.json is no report of a run .*output folder of a job"):
        Run.open(tmp_path)


def test_words():
    initial = np.zeros((12, 12, 12), bool)
    initial[1:4, 1:4, 1:4] = initial[5:8, 1:4, 1:4] = initial[1:4, 8:11, 8:11] = True
    refined = initial.copy()
    refined[4, 1:4, 1:4] = True
    refined[1:4, 8:11, 8:11] = False
    figures = volume_figures(initial, refined, 1000.0) | topology_figures(initial, refined)
    assert sentences(figures) == [
        "27.0 ml removed and 9.00 ml added: 81.0 ml became 63.0 ml, -22.2 %.",
        "3 pieces became 1, 1 piece removed, 1 gap closed.",
    ]
    same = volume_figures(initial, initial, 1.0) | topology_figures(initial, initial)
    assert sentences(same, "no fit") == ["Not refined: no fit.", "No voxel was changed.", "3 pieces, as before."]
    nothing = volume_figures(initial & False, initial & False, 1.0) | topology_figures(initial & False, initial & False)
    assert sentences(nothing) == ["Not in this mask."]
    assert "1 hole inside, as before." in sentences(same | {"holes_initial": 1, "holes_refined": 1})
    steps = "The mask had steps of 3.0 mm, from a coarser grid; now the surface runs between them."
    assert steps in sentences(figures | {"steps_mm": 3.0}) and steps not in sentences(figures)
    assert "2 holes inside, before 1." in sentences(same | {"holes_initial": 1, "holes_refined": 2})

    structures = [{"name": "x", "failure": "", "figures": figures}, {"name": "y", "failure": "no fit", "figures": {}}]
    assert flags("refined", ["y: no fit"], structures) == [["note", "x -22 %"], ["warn", "y kept as it was"]]
    assert flags("refined", ["no image"], []) == [["warn", "1 warning"]]
    poor, fair = (
        [{"name": "x", "failure": "", "figures": {"predicted_dsc_refined_high": high}}] for high in (68.0, 72.0)
    )
    assert flags("refined", [], poor) == [["warn", "x: predicted DSC below 70 %"]] and flags("refined", [], fair) == []
    assert flags("refined", ["a leak"], poor)[0] == ["warn", "1 warning"]
    doubtful = [{"name": "x", "failure": "", "figures": figures, "doubtful": True}]
    assert flags("refined", [], doubtful) == [["bad", "x: fit cannot be right"]]


def test_a_mask_that_was_not_looked_at_is_not_given_the_organ_s_names(tmp_path):
    """Its labels may be another organ's: "heart 212 ml" would be a kidney."""
    run = Run.open(write_run(tmp_path, OBLIQUE))
    record = run.report["cases"][0]
    record |= {"status": "kept", "reason": "none of its labels is one of 'shapes'", "structures": []}
    page = load_case(run, record)
    assert page.structures == [] and page.slices is None
    assert page.notes == ["The mask is not drawn, since it was not looked at as this organ's."]
    assert page.flags == [["warn", "mask kept as it was"]]


@pytest.mark.parametrize(
    "licence, restricted",
    [("CC BY-SA 4.0", False), ("CC BY-NC 4.0", True), ("research use, terms of the challenge", True), ("MIT", False)],
)
def test_restricting_licences_are_said_to_be_so(licence, restricted):
    for provenance in ({"dataset": "x", "licence": licence}, {"sources": [{"license": licence}, {"dataset": "y"}]}):
        keys = [key for key, _ in provenance_lines(provenance)]
        assert ("use" in keys) == restricted and keys.count("use") <= 1


def test_sides_are_shown_each_for_itself(tmp_path):
    """Only the right one is there and reaches across the middle; the refined mask has both."""
    shape, affine = pairs.grid("slices first", "anisotropic")
    points = pairs.world(shape, affine)
    right = pairs.ball(points, [10.0, 0, 0])
    both = pairs.label_map(points)
    pairs.save(tmp_path / "a" / "a_initial.nii.gz", right.astype(np.uint8), affine)
    pairs.save(tmp_path / "a" / "a_refined.nii.gz", both, affine)
    outputs = {"initial": "a/a_initial.nii.gz", "refined": "a/a_refined.nii.gz"}
    names = ["kidney_right", "kidney_left"]
    record = {"case": "a", "outputs": outputs, "structures": [{"name": name} for name in names]}
    settings = {"organ": str(pairs.write_pack(tmp_path / "pack"))}
    (tmp_path / "report.json").write_text(json.dumps({"settings": settings, "cases": [record]}))
    run = Run.open(tmp_path)
    page = load_case(run, record)
    assert run.parts == {1: (names[0], 1), 2: (names[1], 1), 3: (names[0], 2), 4: (names[1], 2)}
    assert run.numbers("kidney_right") == [1, 3]
    counts = {stage: np.bincount(v.ravel(), minlength=5)[1:].tolist() for stage, v in page.slices.labels.items()}
    assert counts[INITIAL] == [right.sum(), 0, 0, 0]
    assert counts[REFINED] == [((both == v) & (points[..., 0] * s > 0)).sum() for v in (1, 2) for s in (1, -1)]
    assert [len(s.surfaces) for s in page.structures] == [2, 1]
    assert page.structures[0].figures["volume_initial_ml"] == pytest.approx(right.sum() * 0.015)


def test_a_case_shows_both_of_a_pair_or_the_one(tmp_path):
    shape, affine = pairs.grid()
    both = pairs.label_map(pairs.world(shape, affine))
    one = np.where(pairs.world(shape, affine)[..., 0] > 0, both, 0).astype(both.dtype)
    kidney = {"name": "kidney", "labels": [1, 2], "mirror": "auto", "paired": True}
    settings = {"organ": str(pairs.write_pack(tmp_path / "pack", structures=[kidney]))}
    records = []
    for case, values, names in (("head", both, ["kidney_right", "kidney_left"]), ("box", one, ["kidney"])):
        outputs = {stage: f"{case}_{stage}.nii.gz" for stage in (INITIAL, REFINED)}
        for file in outputs.values():
            pairs.save(tmp_path / case / file, values, affine)
        records.append({"case": case, "outputs": outputs, "structures": [{"name": name} for name in names]})
    (tmp_path / "report.json").write_text(json.dumps({"settings": settings, "cases": records}))
    run = Run.open(tmp_path)
    for record in records:
        page = load_case(run, record)
        assert [shown.name for shown in page.structures] == [said["name"] for said in record["structures"]]
        assert all(len(shown.surfaces) == 2 for shown in page.structures) and not page.notes
        shown = {run.parts[number][0] for number in np.unique(page.slices.labels[INITIAL])[1:]}
        assert shown == {said["name"] for said in record["structures"]}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"organ": "a/a_organ.stl", "organ_correspondence": "a/a_organ.ply"}, "a_organ.stl"),
        ({"organ": "a/a_organ.vtp", "organ_correspondence": "a/a_organ.ply"}, "a_organ.ply"),
        ({"meshes": "a/a_meshes.glb", "organ_correspondence": "a/a_organ.ply"}, "a_organ.ply"),
        ({"organ": "a/a_organ.obj"}, None),
    ],
)
def test_the_surface_of_a_case_is_found_in_every_mesh_format(tmp_path, outputs, expected):
    for name in outputs.values():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = Run(tmp_path, {}, None, []).mesh_file({"case": "a", "outputs": outputs}, "organ")
    assert (found and found.name) == expected
