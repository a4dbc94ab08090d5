"""The keys of organ.yaml that docs name, against the dataclasses that are read from it."""

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from scripts.organ.fields import settings_of
from scripts.organ.pack import OrganPack, known_organs
from scripts.refine.settings import RefineSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "organ_pack.md"
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTING = re.compile(r"`([a-z]\w*_(?:mm3?|radii|dice|share|cosine|steps|rate|penalty|deg))(?:: [\d.]+)?`")

# figures and fields that look like settings
REPORTED = {
    "steps_mm",
    "taken_in_mm",
    "second_reader_dice",
    "head_dice",
    "to_usual_mm",
    "inward_mm",
    "mesh_mm",
    "predicted_hd95_mm",
    "mesh_deviation_mm",
    "uncertainty_mm",
    "world_RAS_mm",
}
REPORTED |= {"distance_rms_mm", "sd_mm", "difference_mm", "thickness_mm", "mean_thickness_mm"}  # of `shape_table`


def keys_of(kind: type, prefix: str = "") -> dict[str, object]:
    """Key, as the page writes it → default (MISSING if it is required) of a dataclass and of those in it."""
    found = {}
    hints = get_type_hints(kind)
    for key, one in settings_of(kind).items():
        found[prefix + key] = one.default if one.default_factory is MISSING else one.default_factory()
        inner = next((part for part in (hints[key], *get_args(hints[key])) if is_dataclass(part)), None)
        if inner is not None:
            found |= keys_of(inner, f"{prefix}{key}.")
    return found


def test_the_page_lists_every_key_in_order_with_its_default():
    rows = {key: default for key, _, _, default in ROW.findall(PAGE.read_text())}
    keys = keys_of(OrganPack)
    assert list(rows) == list(keys)
    for key, default in keys.items():
        if default is MISSING:
            assert rows[key] == "required"
        elif default is None:
            assert rows[key] == "none"
        elif is_dataclass(default):
            assert rows[key] == "see below"
        elif key != "structures.prior":  # it is that of the structure's name
            written = yaml.safe_load(rows[key].strip("`"))
            assert (tuple(written) if isinstance(written, list) else written) == default, key


def test_the_page_s_example_is_a_pack():
    (example,) = re.findall(r"```yaml\n(.+?)```", PAGE.read_text(), re.DOTALL)
    assert [one.side for one in OrganPack.of(yaml.safe_load(example), Path("kidneys")).structures] == ["right", "left"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_a_page_names_exist(page):
    known = {one.name for one in fields(RefineSettings)} | {key.rpartition(".")[2] for key in keys_of(OrganPack)}
    assert set(SETTING.findall(page.read_text())) - known - REPORTED == set()


@pytest.mark.parametrize("name", known_organs())
def test_packs_of_the_bundle_leave_the_depths_of_the_gate_as_they_are(name):
    default = RefineSettings.load()
    for own in RefineSettings.of_pack(OrganPack.load(name)).values():
        for depth in ("island_radii", "excess_radii", "missing_radii"):
            assert getattr(own, depth) == getattr(default, depth)
