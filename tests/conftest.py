"""Fixtures every test shares."""

from pathlib import Path

import pytest

from tests.helpers.ellipsoid_files import write_organ

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
    return write_organ(tmp_path_factory.mktemp("organ"))
