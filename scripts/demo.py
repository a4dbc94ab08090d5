"""The demo: segment both hippocampi of a template brain, damage the masks, repair them, and show what came back.

The image is the MNI152 T1 template that the package nilearn ships. The U-Net's own masks, which no shape prior has
touched, stand for the truth; the damage is simulated (`scripts.simulation`) and is repaired from masks and image. The
U-Net knows these masks too well to be their second reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import trimesh
from nilearn.datasets import load_mni152_template

from .cases.files import write_text
from .cases.read import read_array, read_labels
from .cases.write import write_label_map, write_nifti
from .geometry.distance import signed_distance
from .geometry.surface import mask_to_surface, sample_surface
from .metrics.surface import score_masks
from .metrics.topology import count_components, count_holes, volume_ml
from .organ.pack import OrganPack
from .report.pictures import Stage, Subject, before_after
from .run.jobs import run_job
from .simulation.damage import damage

ORGAN = "hippocampus"
BOXES = {  # case → centre of its box in MNI152 world mm
    "mni152_left": (-27.0, -22.0, -14.0),
    "mni152_right": (27.0, -22.0, -14.0),
}
BOX_MM = (36, 50, 36)
MOVED_POINTS = 5000
DISPLAY_SMOOTHING_MM = 0.6


def demo(output_dir: str = "output/demo", seed: int = 0, preset: str = "default", device: str = "") -> None:
    """Segment, damage and repair both hippocampi of the MNI152 template, and print what changed.

    Args:
        output_dir: where images, masks, meshes, reports, table.md and before_after.png go.
        seed: of the simulated damage and of the refinement.
        preset: of the refinement: default, paper or linear.
        device: cpu or cuda; empty for cuda where there is one.
    """
    out = Path(output_dir).resolve()
    pack = OrganPack.load(ORGAN)
    options: dict[str, Any] = {"organ": ORGAN, "seed": seed, "preset": preset} | ({"device": device} if device else {})
    cut_boxes(out / "images")
    run_job("inference", dataset_dir=out / "images", output_dir=out / "segmented", **options)
    for number, case in enumerate(BOXES):
        source = out / "segmented" / case / f"{case}_initial.nii.gz"
        labels, affine = read_labels(source)
        write_label_map(out / "damaged" / f"{case}.nii.gz", damage(labels, affine, seed + number), source)
    folders = {"dataset_dir": out / "damaged", "image_dir": out / "images", "output_dir": out / "repaired"}
    run_job("refine", second_reader=False, **folders, **options)

    subjects, rows = [], []
    for case in BOXES:
        subject = load_subject(out, case, pack.structures[0].name)
        subjects.append(subject)
        rows += compare(subject, pack.nsd_tolerance_mm)
    before_after(out / "before_after.png", subjects)
    table = as_table(rows)
    write_text(out / "table.md", table + "\n")
    print(f"\n{table}\n")
    print("Scores are against the undamaged mask; 'moved' is how far the repaired surface lies from the damaged one.")
    print(f"Repaired masks and meshes: {out / 'repaired'}/<case>/")
    print(f"Report of the repair:      {out / 'repaired' / 'report.html'}")
    print(f"Before and after:          {out / 'before_after.png'}")


def cut_boxes(folder: Path) -> None:
    """Cut a box around each hippocampus out of the MNI152 T1 template at 1 mm and write it as NIfTI."""
    template = load_mni152_template(resolution=1)
    for case, centre_world in BOXES.items():
        centre = np.linalg.inv(template.affine) @ (*centre_world, 1.0)
        start = np.rint(centre[:3] - np.array(BOX_MM) / 2).astype(int)
        box = template.slicer[tuple(slice(s, s + n) for s, n in zip(start, BOX_MM, strict=True))]
        values = np.rint(1000 * box.get_fdata()).astype(np.int16)
        write_nifti(folder / f"{case}.nii.gz", nib.Nifti1Image(values, box.affine))


def load_subject(out: Path, case: str, structure: str) -> Subject:
    """Return a case's image, and its mask and surface undamaged, damaged and repaired."""
    image, affine = read_array(out / "images" / f"{case}.nii.gz")
    folder = out / "repaired" / case
    masks = {
        "undamaged": read_labels(out / "segmented" / case / f"{case}_initial.nii.gz")[0] > 0,
        "damaged": read_labels(folder / f"{case}_initial.nii.gz")[0] > 0,
        "repaired": read_labels(folder / f"{case}_refined.nii.gz")[0] > 0,
    }
    meshes = {
        title: mask_to_surface(mask, affine, DISPLAY_SMOOTHING_MM, DISPLAY_SMOOTHING_MM)
        for title, mask in masks.items()
    }
    mesh_file = folder / f"{case}_{structure}.stl"
    if mesh_file.is_file():
        meshes["repaired"] = trimesh.load_mesh(mesh_file)
    stages = [Stage(title, masks[title], meshes[title]) for title in masks]
    return Subject(case.replace("_", " ").replace("mni152", "MNI152"), image, affine, stages)


def compare(subject: Subject, tolerance_mm: float) -> list[dict[str, str]]:
    """Return one row of the table a stage of a subject; the first stage is the truth."""
    truth, before = subject.stages[0], subject.stages[1]
    rows = []
    for stage in subject.stages:
        row = {
            "case": subject.name,
            "mask": stage.title,
            "pieces": str(count_components(stage.mask)),
            "holes": str(count_holes(stage.mask)),
            "volume ml": f"{volume_ml(stage.mask, subject.affine):.2f}",
        }
        if stage is not truth:
            scores = score_masks(stage.mask, truth.mask, subject.affine, tolerance_mm)
            row |= {
                "DSC %": f"{scores['dsc']:.1f}",
                f"NSD {tolerance_mm:g} mm %": f"{scores['nsd']:.1f}",
                "HD95 mm": f"{scores['hd95_mm']:.2f}",
                "ASSD mm": f"{scores['assd_mm']:.2f}",
            }
        if stage not in (truth, before):
            moved_mm = np.abs(signed_distance(before.mesh, sample_surface(stage.mesh, MOVED_POINTS, seed=0)[0]))
            row |= {"moved mm, mean": f"{moved_mm.mean():.2f}", "max": f"{moved_mm.max():.1f}"}
        rows.append(row)
    return rows


def as_table(rows: list[dict[str, str]]) -> str:
    """Return rows as a Markdown table with aligned columns; missing cells are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells: list[Mapping[str, str]] = [dict(zip(names, names, strict=True)), *rows]
    widths = {name: max(len(row.get(name, "")) for row in cells) for name in names}
    lines = ["| " + " | ".join(row.get(n, "").ljust(widths[n]) for n in names) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (widths[n] + 2) for n in names) + "|")
    return "\n".join(lines)
