"""The command `report`: the page of a finished run, and pictures of it for papers."""

from __future__ import annotations

import numpy as np
import trimesh
from tqdm import tqdm

from .case_page import load_case
from .html import check_html_cases, write_page
from .page_data import CasePage
from .pictures import Stage, Subject, before_after
from .run_folder import Run
from .run_report import shown
from .surfaces import INITIAL, REFINED, TRUTH


def report(run_dir: str, label_dir: str = "", image_dir: str = "", png: bool = False, html_cases: int = 0) -> str:
    """Make the page report.html of a finished run, again or anew, from its report.json and files.

    Args:
        run_dir: output folder of the job `inference` or `refine`.
        label_dir: true label maps, named like the cases or their beginnings; the page then shows errors and scores.
        image_dir: images, likewise; by default those that the run's report names.
        png: also write <case>/<case>_<structure>.png: surfaces and a slice, (truth,) initial and refined.
        html_cases: how many cases the page draws, the worst first; 0 for as many as it has room for.

    Returns:
        The page's path.

    Raises:
        ValueError: the folder holds no run, or a folder no volume; or `html_cases` is less than 0.
    """
    most = check_html_cases(html_cases)
    run = Run.open(run_dir, label_dir or None, image_dir or None)
    path = write_page(run, most)
    if png:
        for record in tqdm(run.report["cases"], desc="png", unit="case", disable=None):
            write_pictures(run, record)
    return str(path)


def write_pictures(run: Run, record: dict) -> None:
    """Write a PNG for each structure of a case that has an initial and a refined surface."""
    full_size: dict[str, dict[str, trimesh.Trimesh]] = {}
    page = load_case(run, record, full_size)
    for structure in run.structures:
        meshes = full_size.get(structure.name, {})
        if INITIAL in meshes and REFINED in meshes:
            subject = subject_of(page, structure.name, run.numbers(structure.name), meshes)
            before_after(run.folder / page.name / f"{page.name}_{structure.name}.png", [subject])


def subject_of(page: CasePage, name: str, numbers: list[int], meshes: dict[str, trimesh.Trimesh]) -> Subject:
    """Return a structure of a case for `before_after`; the first stage is the truth where there is one."""
    slices = page.slices
    assert slices is not None
    shape = slices.labels[INITIAL].shape
    image = np.zeros(shape, np.uint8)
    if slices.image is not None:
        blocks = np.repeat(
            np.repeat(np.repeat(slices.image, slices.image_step[0], 0), slices.image_step[1], 1),
            slices.image_step[2],
            2,
        )
        image = blocks[tuple(slice(n) for n in shape)]
    order = [stage for stage in (TRUTH, INITIAL, REFINED) if stage in meshes]
    stages = [Stage(stage, np.isin(slices.labels[stage], numbers), meshes[stage]) for stage in order]
    return Subject(shown(f"{page.name}, {name}"), image, slices.affine, stages)
