"""The command shape_table on runs whose meshes are the packaged hippocampus template, changed in a known way."""

import csv
import json
import logging

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from vtk import vtkXMLPolyDataReader
from vtk.util.numpy_support import vtk_to_numpy

from scripts.cases.mesh import vertex_numbers, write_mesh
from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.report.run_folder import RunError
from scripts.report.shape_groups import two_groups
from scripts.report.shape_study import Template
from scripts.report.shape_table import _spread, names_of, shape_table
from scripts.run.done_before import prior_hashes

EACH = 4  # cases a group
TALL_MM = 2.0  # of the bump that the first group has on its front end


@pytest.fixture(scope="module")
def template() -> Template:
    return Template.of(ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior), face_count=3000)


def bumped(template: Template, height_mm: float, pose: int, mirrored: bool) -> trimesh.Trimesh:
    """The template with a bump on its front end and an uneven skin, somewhere."""
    mesh, rng = template.mesh_mm, np.random.default_rng(pose)
    front = mesh.vertices[np.argmax(mesh.vertices[:, 1])]
    near = np.exp(-((np.linalg.norm(mesh.vertices - front, axis=1) / 4.0) ** 2))
    skin = 0.25 * np.cos(mesh.vertices @ rng.normal(0, 0.15, 3) + rng.uniform(0, 6))
    points = mesh.vertices + (height_mm * near + skin)[:, None] * mesh.vertex_normals
    faces = mesh.faces
    if mirrored:
        points, faces = points * (-1, 1, 1), faces[:, ::-1]
    points = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).apply(points) + rng.normal(0, 50, 3)
    return trimesh.Trimesh(points, faces, process=False)


def said(name: str, mirrored: bool = False, **quality) -> dict:
    """What the report says of a structure."""
    return {
        "name": name,
        "status": "refined",
        "failure": "",
        "seconds": {},
        "quality": {"alignment": {"mirrored": mirrored}, "fit": {"codes": [0.5, -1.0]}, "doubtful": False, **quality},
    }


def write_run(folder, template, shapes) -> None:
    """Write a run: (case, structure, height of the bump, mirrored, what the report says, or None for the usual)."""
    cases: dict[str, dict] = {}
    data = {f"template_{axis}": template.places[:, k].astype(np.float32) for k, axis in enumerate("xyz")}
    for number, (case, name, height, mirrored, told) in enumerate(shapes):
        record = cases.setdefault(case, {"case": case, "status": "refined", "outputs": {}, "structures": []})
        record["structures"].append(told or said(name, mirrored))
        if height is not None:
            file = folder / case / f"{case}_{name}.ply"
            write_mesh(file, bumped(template, height, number, mirrored), data, "LPS")
            record["outputs"][f"{name}_correspondence"] = str(file)
    report = {"job": "refine", "settings": {"organ": "hippocampus"}, "summary": {}, "cases": list(cases.values())}
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def patients(tmp_path_factory, template):
    """A run of two groups, of which the first has a bump; in the second a fit is doubtful and a mask was kept."""
    folder = tmp_path_factory.mktemp("patients") / "run"
    cases = [(f"ill_{n}", "hippocampus", TALL_MM, n % 2 == 1, None) for n in range(EACH)]
    cases += [(f"well_{n}", "hippocampus", 0.0, n % 2 == 0, None) for n in range(EACH)]
    cases.append(("well_8", "hippocampus", 9.0, False, said("hippocampus", doubtful=True)))
    cases.append(("well_9", "hippocampus", None, False, {**said("hippocampus"), "failure": "too small"}))
    write_run(folder, template, cases)
    report = json.loads((folder / "report.json").read_text())
    report["cases"].append({"case": "lost", "status": "failed", "reason": "lost.nii.gz cannot be read", "outputs": {}})
    (folder / "report.json").write_text(json.dumps(report))
    table = "case,group\n" + "".join(f"{case[0]},{case[0].split('_')[0]}\n" for case in cases) + "gone,ill\n"
    (folder.parent / "groups.csv").write_text(table)
    return folder


@pytest.fixture(scope="module")
def compared(patients):
    said_of_it = shape_table(str(patients), groups=str(patients.parent / "groups.csv"))
    return patients / "shape_table", said_of_it


def rows_of(file) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_a_row_a_shape(compared):
    rows = {row["case"]: row for row in rows_of(compared[0] / "shape_table.csv")}
    assert len(rows) == 2 * EACH + 3 and rows["lost"]["left_out"] == "lost.nii.gz cannot be read"
    assert rows["ill_1"]["mirrored"] == "1" and rows["ill_0"]["mirrored"] == "0" and rows["ill_1"]["group"] == "ill"
    assert 3.0 < float(rows["ill_0"]["volume_ml"]) < 4.5 and float(rows["ill_0"]["code2"]) == -1.0
    assert 5.0 < float(rows["well_0"]["thickness_mm"]) < 10.0
    assert rows["well_8"]["left_out"] == "its fit cannot be right" and rows["well_9"]["left_out"] == "too small"
    assert rows["well_8"]["mode1"] == "" and rows["well_0"]["left_out"] == ""


def test_t_is_high_on_the_bump_and_nowhere_else(compared):
    with np.load(compared[0] / "hippocampus.npz") as arrays:
        found = dict(arrays)
    places = found["mean"]
    front = places[np.argmax(places[:, 1])]
    away = np.linalg.norm(places - front, axis=1)
    assert found["groups"].tolist() == ["ill", "well"] and not found["paired"]
    assert found["distance_mm"].shape == (2 * EACH, len(places)) and found["codes"].shape == (2 * EACH, 2)
    assert (found["t"][away < 2] > 5).all() and np.median(np.abs(found["t"][away > 12])) < 2
    assert (found["q"][away < 2] < 0.05).all() and (found["q"][away > 12] < 0.05).mean() < 0.05
    assert found["difference_mm"][away < 1.5].mean() == pytest.approx(TALL_MM, abs=0.5)


def test_points_stand_in_tables_too(compared):
    rows = rows_of(compared[0] / "hippocampus_distance_mm.csv")
    with np.load(compared[0] / "hippocampus.npz") as arrays:
        expected, cases = arrays["distance_mm"], arrays["case"].tolist()
    assert [row["case"] for row in rows] == cases
    assert float(rows[2]["point17"]) == pytest.approx(float(expected[2, 17]), rel=1e-4)
    assert len(rows_of(compared[0] / "hippocampus_thickness_mm.csv")) == 2 * EACH


def test_other_programs_read_the_mean_shape_and_its_numbers(compared):
    with np.load(compared[0] / "hippocampus.npz") as arrays:
        t, mean = arrays["t"].astype(np.float32), arrays["mean"]
    mesh = trimesh.load(compared[0] / "hippocampus_mean.ply", process=False)
    assert mesh.is_watertight and mesh.volume > 0
    np.testing.assert_array_equal(vertex_numbers(mesh, "t"), t)
    colours = np.asarray(mesh.visual.vertex_colors)
    assert colours[np.nanargmax(t), 0] > 150 > colours[np.nanargmax(t), 2]
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(compared[0] / "hippocampus_mean.vtp"))
    reader.Update()
    read = reader.GetOutput()
    np.testing.assert_allclose(vtk_to_numpy(read.GetPoints().GetData()), mean, rtol=1e-6)
    np.testing.assert_array_equal(vtk_to_numpy(read.GetPointData().GetArray("t")), t)
    names = {read.GetPointData().GetArrayName(n) for n in range(read.GetPointData().GetNumberOfArrays())}
    assert {"RGB", "n", "sd_mm", "mean_thickness_mm", "difference_mm", "p", "q"} <= names


def test_what_is_printed_names_groups_and_test(compared):
    assert f"| hippocampus | ill, n = {EACH} | well, n = {EACH} | Welch's t | p |" in compared[1]
    assert "% of the surface differs" in compared[1]
    assert (compared[0] / "hippocampus.png").read_bytes().startswith(b"\x89PNG")


def test_without_groups_there_are_means_and_no_t(patients, tmp_path):
    text = shape_table(str(patients), str(tmp_path))
    assert (
        f"| hippocampus, {2 * EACH} shapes | mean ± sd |" in text
        and "group" not in rows_of(tmp_path / "shape_table.csv")[0]
    )
    mesh = trimesh.load(tmp_path / "hippocampus_mean.ply", process=False)
    assert vertex_numbers(mesh, "t") is None and vertex_numbers(mesh, "sd_mm").max() < 2.0


def test_left_and_right_of_the_same_people_are_compared_in_pairs(template, tmp_path):
    shapes = []
    for n in (2, 0, 1):
        shapes += [(f"p{n}", "hippocampus_right", TALL_MM, True, None), (f"p{n}", "hippocampus_left", 0.0, False, None)]
    write_run(tmp_path / "run", template, shapes)
    text = shape_table(str(tmp_path / "run"), groups="structure")
    assert "| hippocampus | hippocampus_right, n = 3 | hippocampus_left, n = 3 | paired t | p |" in text
    with np.load(tmp_path / "run" / "shape_table" / "hippocampus.npz") as arrays:
        front = np.argmax(arrays["mean"][:, 1])
        assert arrays["paired"] and arrays["difference_mm"][front] == pytest.approx(TALL_MM, abs=0.7)


def pairs(template, folder, lacking: set[tuple[str, str]]) -> None:
    """A run of four people with two sides each but for those that are lacking."""
    shapes = [
        (f"p{n}", f"hippocampus_{side}", height, mirrored, None)
        for n in range(4)
        for side, height, mirrored in (("left", 0.0, False), ("right", TALL_MM, True))
        if (f"p{n}", side) not in lacking
    ]
    write_run(folder, template, shapes)


def test_who_has_no_partner_is_left_out_of_the_pairs_and_named(template, tmp_path, caplog):
    pairs(template, tmp_path / "run", {("p2", "left")})
    text = shape_table(str(tmp_path / "run"), groups="structure")
    assert "hippocampus_right, n = 3 | hippocampus_left, n = 3 | paired t" in text
    assert "in pairs, so without those that have no partner: p2" in caplog.text
    assert len(rows_of(tmp_path / "run" / "shape_table" / "hippocampus_distance_mm.csv")) == 7


def test_the_first_group_is_that_of_the_pack_or_of_the_file_whichever_shapes_there_are(template, tmp_path):
    pairs(template, tmp_path / "run", {("p0", "right")})
    assert "| hippocampus_right, n = 3 | hippocampus_left" in shape_table(str(tmp_path / "run"), groups="structure")
    table = tmp_path / "g.csv"
    table.write_text("case,structure,group\n" + "".join(
        f"{case},hippocampus_{side},{group}\n" for side, group in (("right", "tall"), ("left", "low"))
        for case in ("gone", "p3", "p2", "p1", "p0")
    ))  # fmt: skip
    assert "| tall, n = 3 | low, n = 3 | paired t" in shape_table(str(tmp_path / "run"), groups=str(table))


def test_few_pairs_among_many_shapes_are_taken_for_independent():
    cases = ["a", "a", "b", "b", *"cdefgh"]
    groups = ["x", "y", "x", "y", *"xxxyyy"]
    found = two_groups(cases, groups, ("y", "x"))
    assert found.names == ("y", "x") and not found.paired and [len(part) for part in found.rows] == [5, 5]
    assert two_groups(cases[:6], groups[:6], ("y", "x")).paired
    assert not two_groups(["a", *cases[:4]], ["x", *groups[:4]], ("x", "y")).paired


def test_a_bad_shape_is_left_out_by_name_and_the_others_are_compared(template, tmp_path, caplog):
    cases = [(f"c{n}", "hippocampus", 0.0, False, None) for n in range(4)]
    write_run(tmp_path / "run", template, cases)
    (tmp_path / "run" / "c1" / "c1_hippocampus.ply").write_bytes(b"ply\nno mesh")
    file = tmp_path / "run" / "c2" / "c2_hippocampus.ply"
    mesh = bumped(template, 0.0, 2, False)
    mesh.update_faces(mesh.triangles_center[:, 1] > np.sort(mesh.triangles_center[:, 1])[-50])
    write_mesh(file, mesh, {f"template_{a}": template.places[:, k].astype("f4") for k, a in enumerate("xyz")}, "LPS")
    assert "| hippocampus, 2 shapes |" in shape_table(str(tmp_path / "run"))
    left = {row["case"]: row["left_out"] for row in rows_of(tmp_path / "run" / "shape_table" / "shape_table.csv")}
    assert left["c1"].startswith("its mesh cannot be read") and "% of the template" in left["c2"]
    assert left["c0"] == left["c3"] == ""
    assert "c1, hippocampus: left out" in caplog.text and "c2, hippocampus: left out" in caplog.text


def test_a_prior_that_has_changed_since_the_run_is_noticed(template, tmp_path, caplog):
    write_run(tmp_path / "run", template, [(f"c{n}", "hippocampus", 0.0, False, None) for n in range(2)])
    file = tmp_path / "run" / "report.json"
    pack = OrganPack.load("hippocampus")
    report = json.loads(file.read_text()) | {"priors": prior_hashes(pack)}
    file.write_text(json.dumps(report))
    shape_table(str(tmp_path / "run"))
    assert report["priors"].keys() == {"hippocampus", "hippocampus_left", "hippocampus_right"}
    file.write_text(json.dumps(report | {"priors": {"hippocampus": "another"}}))
    with pytest.raises(ValueError, match="no two shapes"):
        shape_table(str(tmp_path / "run"))
    assert "priors have changed since the run: hippocampus; refine again" in caplog.text


def test_the_table_names_priors_as_the_files_are_named(template, tmp_path):
    packs = {}
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.safetensors").symlink_to(OrganPack.load("hippocampus").structures[0].prior)
        text = (
            f"name: {name}\nlabels: {{1: {name}}}\nstructures: [{{name: {name}, labels: [1], prior: x.safetensors}}]\n"
        )
        (folder / "organ.yaml").write_text(text)
        packs[name] = folder
    write_run(tmp_path / "run", template, [(f"c{n}", name, 0.0, False, None) for n in range(2) for name in packs])
    file = tmp_path / "run" / "report.json"
    report = json.loads(file.read_text())
    report["settings"]["organ"] = ",".join(map(str, packs.values()))
    file.write_text(json.dumps(report))
    shape_table(str(tmp_path / "run"))
    rows = rows_of(tmp_path / "run" / "shape_table" / "shape_table.csv")
    assert {row["structure"]: row["prior"] for row in rows} == {"one": "one_x", "two": "two_x"}


@pytest.mark.parametrize(
    "text, why",
    [
        ("case,group\nill_0,x\nill_0,y\n", "line 3: ill_0 is in the group y here and in x above"),
        (
            "case,structure,group\nill_0,hipocampus,x\n",
            "line 2: the run has no structure hipocampus: give one of",
        ),
        ("case,group\nill_0,x\n\n,y\n", "line 4 has no case"),
        ("case,group\nill_0,\n", "line 2 has no group"),
        ("case,group\nill_0,x,3\n", "line 2 has 3 cells, the first line 2"),
        ("case,group\nother,x\nanother,y\n", "two groups, not 0"),
        ("", "no column case or group"),
    ],
)
def test_lines_of_a_table_of_groups_are_checked(patients, tmp_path, text, why):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(ValueError, match=why):
        shape_table(str(patients), str(tmp_path / "out"), groups=str(tmp_path / "g.csv"))
    (tmp_path / "g.csv").write_bytes("case,group\nill_0,größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="no CSV in UTF-8"):
        shape_table(str(patients), str(tmp_path / "out"), groups=str(tmp_path / "g.csv"))


def test_means_are_printed_with_as_many_digits_as_their_spread_has():
    assert _spread(np.array([1800.0, 2000.0, 2200.0])) == "2000 ± 200"
    assert _spread(np.array([3.4, 3.8, 4.2])) == "3.80 ± 0.40"
    assert _spread(np.array([0.01, 0.02, 0.03])) == "0.020 ± 0.010"


def test_groups_that_are_none_are_refused(patients, tmp_path, caplog):
    for text, why in (
        ("name,group\na,b\n", "no column case"),
        ("case,group\nill_0,x\nill_1,x\n", "two groups, not 1: x"),
        ("case,group\nill_0,x\nill_1,y\nill_2,z\n", "not 3"),
    ):
        (tmp_path / "g.csv").write_text(text)
        with pytest.raises(ValueError, match=why):
            shape_table(str(patients), str(tmp_path / "out"), groups=str(tmp_path / "g.csv"))
    with pytest.raises(ValueError, match="there is no file"):
        shape_table(str(patients), groups="nothing.csv")
    (tmp_path / "g.csv").write_text("case,group\nill_0,x\nill_1,x\nwell_0,y\n")
    with caplog.at_level(logging.WARNING):
        shape_table(str(patients), str(tmp_path / "out"), groups=str(tmp_path / "g.csv"))
    assert "no two groups of at least two shapes" in caplog.text


def test_a_folder_without_two_shapes_is_refused(template, tmp_path):
    with pytest.raises(RunError):
        shape_table(str(tmp_path))
    write_run(tmp_path / "run", template, [("a", "hippocampus", 0.0, False, None)])
    with pytest.raises(ValueError, match="no two shapes"):
        shape_table(str(tmp_path / "run"))


def test_priors_of_the_same_name_keep_their_packs_apart(tmp_path):
    files = [tmp_path / "a" / "x.safetensors", tmp_path / "b" / "x.safetensors", tmp_path / "b" / "y.safetensors"]
    assert list(names_of([*files, files[0]])) == ["a_x", "b_x", "y"]
