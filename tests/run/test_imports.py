"""What a refinement loads beside torch and MONAI: little, since every run and every worker waits for it."""

import subprocess
import sys

CODE = """
import re, sys
import torch, monai
before = {*sys.modules}
from importlib import import_module
for address in {*re.findall(r"scripts(?:[.]\\w+)+", open("configs/refine.yaml").read())}:
    name, module = address, None
    while module is None:
        try:
            module = import_module(name)
        except ModuleNotFoundError:
            name = name.rpartition(".")[0]
print(*sorted({name.partition(".")[0] for name in {*sys.modules} - before}))
print(*sorted({*sys.modules} - before))
"""
HEAVY = {"pydicom", "tensorboard", "pandas", "dask", "distributed", "bokeh", "nilearn", "SimpleITK", "vtkmodules"}


def test_a_refinement_loads_no_package_that_it_does_not_need(bundle_root):
    done = subprocess.run([sys.executable, "-c", CODE], cwd=bundle_root, capture_output=True, text=True, check=True)
    packages, modules = (set(line.split()) for line in done.stdout.splitlines())
    assert "scripts" in packages and "scripts.run.runner" in modules
    assert not packages & HEAVY and "matplotlib.pyplot" not in modules
