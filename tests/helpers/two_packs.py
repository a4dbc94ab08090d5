"""Two organ packs that refine hippocampi under other names, and a volume with one for each."""

import shutil
from pathlib import Path

import numpy as np
import yaml

from scripts.organ.pack import OrganPack
from tests.helpers.mean_shape import damaged, mean_shape

BEAN, PEA, SPLEEN = 4, 9, 30  # values of the model `garden`
BEANS = {"labels": {1: "bean"}, "sources": {"garden": {BEAN: "bean", "runner": "bean"}}}
PEAS = {"labels": {1: "pea"}, "sources": {"garden": {PEA: "pea", "husk": "pea"}}}


def write_pack(folder: Path, labels: dict[int, str], sources: dict | None = None, **settings) -> Path:
    """Write a pack, one structure a label, each with the hippocampus prior."""
    known = OrganPack.load("hippocampus")
    structures = [
        {"name": name, "labels": [value], "mirror": "auto", "prior": "bean.safetensors"}
        for value, name in labels.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(known.structures[0].prior, folder / "bean.safetensors")
    pack = {"name": folder.name, "labels": labels, "sources": sources or {}, "structures": structures}
    (folder / "organ.yaml").write_text(yaml.safe_dump({**pack, "refine": known.refine, **settings}))
    return folder


def write_packs(folder: Path) -> list[Path]:
    """Write both packs."""
    return [write_pack(folder / "beans", **BEANS), write_pack(folder / "peas", **PEAS)]


def garden(kind: str = "plain", apart: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map with the values of `garden`, and its affine: a damaged bean, a pea and a spleen.

    Args:
        kind: of the grid.
        apart: of bean and pea along the first axis, in voxels, where neither has what both would have; None for so far
            that they do not touch.
    """
    truth, affine = mean_shape(kind)
    step = truth.shape[0] if apart is None else apart
    bean, pea = np.zeros((2, truth.shape[0] + step, *truth.shape[1:]), bool)
    bean[: truth.shape[0]] = (damaged(truth, affine) if apart is None else truth) > 0
    pea[step:] = truth > 0
    values = np.where(bean & ~pea, BEAN, np.where(pea & ~bean, PEA, 0)).astype(np.uint8)
    values[-3:, -3:, -3:] = SPLEEN
    return values, affine
