"""Settings of the refinement: who goes before whom, and a plain line where one is wrong."""

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from scripts.organ.pack import PRESETS, OrganError, OrganPack, known_organs
from scripts.refine import settings as module
from scripts.refine.settings import RefineSettings, known_presets
from scripts.run.request import Request
from tests.helpers.small_pack import write_pack

SOURCES = Path(module.__file__).parent


def pack_with(folder, own=None, refine=None) -> OrganPack:
    structure = {"name": "boxes", "labels": [1, 2], "refine": own or {}}
    return OrganPack.load(write_pack(folder / "boxes", structures=[structure], refine=refine or {}))


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """A copy of the presets' file that may be changed."""
    file = tmp_path / "presets.yaml"
    shutil.copy(PRESETS, file)
    monkeypatch.setattr(module, "PRESETS", file)
    return file


def test_the_structure_goes_before_the_pack_and_the_preset_before_both(tmp_path):
    pack = pack_with(tmp_path, {"island_radii": 1.5, "method": "robust"}, {"island_radii": 9.0, "excess_radii": 5})
    found = RefineSettings.of_pack(pack)["boxes"]
    unset = RefineSettings.load().missing_radii
    assert (found.island_radii, found.excess_radii, found.missing_radii) == (1.5, 5.0, unset)
    assert RefineSettings.load(pack=pack).island_radii == 9.0
    assert RefineSettings.of_pack(pack, "linear")["boxes"].method == "linear"
    assert RefineSettings.load("linear", pack, pack.structures[0], island_radii=2, method="paper").method == "paper"


@pytest.mark.parametrize("organ", known_organs())
@pytest.mark.parametrize("preset", known_presets())
def test_every_pack_of_the_bundle_has_settings(organ, preset):
    pack = OrganPack.load(organ)
    assert list(RefineSettings.of_pack(pack, preset)) == [one.name for one in pack.structures]


def test_the_default_preset_has_every_setting_and_each_is_checked():
    assert list(yaml.safe_load(PRESETS.read_text())["default"]) == [one.name for one in fields(RefineSettings)]
    assert all(one.metadata for one in fields(RefineSettings))


def test_numbers_come_in_their_types(tmp_path):
    pack = pack_with(tmp_path, {"missing_radii": "2e-1", "samples": "8e2", "island_radii": 2})
    found = RefineSettings.of_pack(pack)["boxes"]
    assert (found.missing_radii, found.samples, found.island_radii) == (0.2, 800, 2.0)
    assert type(found.samples) is int and type(found.island_radii) is float


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"excess": 3.0}, ": unknown key 'excess': did you mean 'excess_radii'?"),
        ({"excess_radii": "far"}, ": excess_radii must be a number from 0 to 100, not 'far'"),
        ({"excess_radii": -1}, ": excess_radii must be a number from 0 to 100, not -1"),
        ({"excess_radii": float("nan")}, ": excess_radii must be a number from 0 to 100, not nan"),
        ({"excess_radii": float("inf")}, ": excess_radii must be a number from 0 to 100, not inf"),
        ({"excess_radii": None}, ": excess_radii must be a number from 0 to 100, not nothing"),
        ({"gate": "false"}, ": gate must be true or false, without quotes, not 'false'"),
        ({"fusion": 0}, ": fusion must be true or false, without quotes, not 0"),
        ({"context": "no"}, ": context must be true or false, without quotes, not 'no'"),
        ({"samples": 10**9}, ": samples must be a whole number from 10 to 100000, not 1000000000"),
        ({"samples": 800.5}, ": samples must be a whole number from 10 to 100000, not 800.5"),
        ({"code_steps": 10**6}, ": code_steps must be a whole number from 0 to 10000, not 1000000"),
        ({"method": "magic"}, ": method must be one of robust, linear, paper, not 'magic'"),
        (
            {"sound_dice": 0.7},
            ": sound_dice is no setting any more: remove it (it is SOUND_DICE in scripts/refine/fusion.py)",
        ),
    ],
)
def test_a_wrong_setting_stops_before_anything_runs(tmp_path, own, message):
    """One line that names file, structure, key and remedy."""
    where = tmp_path / "boxes" / "organ.yaml"
    pack = pack_with(tmp_path, own)
    with pytest.raises(OrganError) as caught:
        RefineSettings.of_pack(pack)
    assert str(caught.value) == f"{where}: structures: boxes: refine{message}"
    assert Request.of(pack.folder).problem == str(caught.value)
    with pytest.raises(OrganError) as caught:
        RefineSettings.of_pack(pack_with(tmp_path, refine=own))
    assert str(caught.value) == f"{where}: refine{message}"


@pytest.mark.parametrize("key", module.GONE)
def test_a_setting_that_went_away_says_where_its_number_is_now(key):
    with pytest.raises(OrganError, match=f"^settings: {key} is no setting any more: remove it"):
        RefineSettings.load(**{key: 1.0})
    for name in re.findall(r"\b[A-Z]+_[A-Z]+\b", module.GONE[key]):
        homes = [file for file in SOURCES.glob("*.py") if file.name in module.GONE[key]]
        assert homes and all(re.search(rf"^.*\b{name}\b.* = ", file.read_text(), re.MULTILINE) for file in homes)


def test_there_are_twelve_settings_of_which_the_packs_of_the_bundle_vary_one():
    assert len(fields(RefineSettings)) == 12
    for organ in known_organs():
        pack = OrganPack.load(organ)
        assert set(pack.refine) <= {"loss_scale_mm"} and all(own.refine == {} for own in pack.structures)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("paper", {"paper": {"methd": "paper"}}, ": paper: unknown key 'methd': did you mean 'method'?"),
        ("paper", {"paper": 3}, ": paper must be a mapping, lines of 'key: value', not 3"),
        ("default", {"default": {"samples": 800}}, ": default lacks the key 'method': add it"),
        ("default", {"default": None}, " lacks the preset 'default'"),
    ],
)
def test_a_wrong_preset_is_said_in_one_line(presets, preset, changes, message):
    values = {key: value for key, value in (yaml.safe_load(presets.read_text()) | changes).items() if value is not None}
    presets.write_text(yaml.safe_dump(values))
    with pytest.raises(OrganError) as caught:
        RefineSettings.load(preset)
    assert str(caught.value) == f"{presets}{message}"
    assert Request.of("hippocampus", preset).problem == str(caught.value)


def test_a_file_of_presets_that_is_no_yaml_is_named(presets):
    presets.write_text("default: [")
    with pytest.raises(OrganError, match="presets.yaml is no valid YAML in line 1"):
        known_presets()


@pytest.mark.parametrize("preset", ["best", "", ["default"], None])
def test_an_unknown_preset_is_said_with_those_there_are(preset):
    with pytest.raises(OrganError, match="unknown preset .*; choose one of default, paper, linear"):
        RefineSettings.load(preset)
