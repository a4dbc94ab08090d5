"""Fixtures every test shares."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.ellipsoid_files import ellipsoid_radii, write_ellipsoids

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the hosts, whose two files take the longest: with two workers they run beside each other."""
    items.sort(key=lambda item: "hosts" not in item.keywords)


@pytest.fixture(scope="session")
def bundle_root() -> Path:
    """The bundle's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real scans and labels beside the checkout; tests that need them skip where the folder is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}")
    return folder


@pytest.fixture(scope="session")
def organ(tmp_path_factory):
    """An organ pack with a split, and the folder that holds its label maps and cached samples."""
    cache = tmp_path_factory.mktemp("data")
    train = write_ellipsoids(cache / "labels", ellipsoid_radii(6, seed=0))
    held_out = write_ellipsoids(cache / "labels", ellipsoid_radii(2, seed=1), first=6)
    pack = tmp_path_factory.mktemp("pack")
    settings = {
        "name": "egg",
        "labels": {1: "egg"},
        "structures": [{"name": "egg", "labels": [1]}],
        "split": {"train": [f.name for f in train], "validation": [f.name for f in held_out]},
        "provenance": {"licence": "none needed"},
    }
    (pack / "organ.yaml").write_text(yaml.safe_dump(settings))
    return pack, cache
