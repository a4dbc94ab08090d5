"""CHANGELOG.md is where changes are written down; metadata and pyproject.toml agree with it."""

import json
import re
from pathlib import Path

import pytest
import yaml


def read_changelog(text: str) -> dict[str, str]:
    """The versions of a changelog → their lines, joined by semicolons."""
    versions = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        version, _, body = section.partition("\n")
        lines = re.split(r"^- ", body, flags=re.MULTILINE)[1:]
        versions[version] = "; ".join(" ".join(line.split()) for line in lines)
    return versions


@pytest.fixture(scope="module")
def changelog(bundle_root: Path) -> dict[str, str]:
    """The released versions."""
    versions = read_changelog((bundle_root / "CHANGELOG.md").read_text())
    assert "Unreleased" not in list(versions)[1:]
    return {version: lines for version, lines in versions.items() if version != "Unreleased"}


def test_lines_are_read():
    text = "# Changelog\n\nSee below.\n\n## 0.2.0\n\n- one - and\n  a half\n- two\n\n## 0.1.0\n\n- zero\n"
    assert read_changelog(text) == {"0.2.0": "one - and a half; two", "0.1.0": "zero"}


@pytest.mark.parametrize("file", ["metadata.json", "configs/metadata.json"])
def test_metadata_have_its_versions_and_lines(bundle_root, changelog, file):
    listed = json.loads((bundle_root / file).read_text())["changelog"]
    assert listed == changelog
    assert list(listed) == list(changelog)


def test_newest_version_comes_first(changelog):
    numbers = [tuple(map(int, version.split("."))) for version in changelog]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == len(numbers)


def test_there_is_one_version(bundle_root, changelog):
    newest = next(iter(changelog))
    stated = {
        file: json.loads((bundle_root / file).read_text())["version"]
        for file in ("metadata.json", "configs/metadata.json")
    }
    stated["pyproject.toml"] = re.search(r'^version = "(.+)"$', (bundle_root / "pyproject.toml").read_text(), re.M)[1]
    assert stated == dict.fromkeys(stated, newest)


def test_what_is_checked_before_a_commit_is_what_make_lint_checks(bundle_root):
    config = yaml.safe_load((bundle_root / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    recipe = (bundle_root / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0].splitlines()[1:]
    assert hooks == [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe]
