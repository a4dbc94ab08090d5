"""`shape-refine`, as pip installs it: from any folder, beside other packages called `scripts`."""

import subprocess
import sys

import pytest


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with another package called `scripts`."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("WHOSE = 'theirs'")
    return tmp_path


def python(code, folder, bundle_root):
    """Run Python in a folder whose modules go first, with the bundle's root behind."""
    code = f"import sys; sys.path.append({str(bundle_root)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_pip_installs_the_command_and_nothing_called_scripts(bundle_root):
    text = (bundle_root / "pyproject.toml").read_text()
    assert 'shape-refine = "shape_refine:main"' in text and 'py-modules = ["shape_refine"]' in text


def test_the_command_is_the_bundle_s_beside_another_package_of_its_name(elsewhere, bundle_root):
    done = python("sys.argv = ['shape-refine', '--help']\nimport shape_refine as s; s.main()", elsewhere, bundle_root)
    assert done.returncode == 0 and done.stdout.startswith("shape-refine COMMAND") and "train-prior" in done.stdout


def test_in_python_the_bundle_s_package_is_found_or_the_other_named(elsewhere, bundle_root):
    code = "import shape_refine; shape_refine.use()\nfrom scripts.geometry import affine; print(affine.__file__)"
    assert python(code, elsewhere, bundle_root).stdout.strip() == str(
        bundle_root / "scripts" / "geometry" / "affine.py"
    )
    done = python(f"import scripts\n{code}", elsewhere, bundle_root)
    assert f"another package called scripts, {elsewhere / 'scripts'}, has been imported" in done.stderr


def test_a_copy_without_the_bundle_says_how_to_install_it(bundle_root, tmp_path):
    (tmp_path / "shape_refine.py").write_bytes((bundle_root / "shape_refine.py").read_bytes())
    done = python("import shape_refine; shape_refine.main()", tmp_path, tmp_path)
    assert (
        done.returncode == 1
        and done.stderr.startswith("Error: the bundle is not beside")
        and "pip install -e" in done.stderr
    )
