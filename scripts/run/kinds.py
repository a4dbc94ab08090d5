"""Options of a run that are of another kind than they must be: refused before anything is made of them."""

from __future__ import annotations

import torch

from ..cases.part import read_part
from ..organ.checks import shown
from ..refine.draw_mesh import check_faces, check_mesh_mm
from ..refine.fine_mask import check_fine
from ..refine.slices_file import SlicesFile
from ..report.html import check_html_cases
from .options import is_true

MOST_SEED = 2**32 - 1  # which NumPy takes


def check_options(
    seed: object = 0,
    device: object = "cpu",
    html: object = True,
    overwrite: object = False,
    workers: object = 0,
    part: str = "",
    fix_sides: object = False,
    enlarged: object = False,
    uncertainty: object = False,
    html_cases: object = 0,
    sparse: object = False,
    shared_faces: object = False,
    slices_file: str | None = None,
    image_dir: object = None,
    prob_dir: object = None,
    fine_mm: object = 0.0,
    grid: object = None,
    mesh_mm: object = 0.0,
    mesh_faces: object = 0,
    inward_mm: object = "",
    second_reader: object = True,
    add_missing: object = False,
    refine: object = True,
) -> None:
    """Refuse options of a run that are not of their kind.

    Args:
        seed: a whole number from 0 on, of 32 bits.
        device: such as "cpu" or "cuda".
        html, overwrite, fix_sides, enlarged, uncertainty, sparse, shared_faces, second_reader, add_missing, refine:
            switches, see `is_true`.
        workers: a whole number from 0 on.
        part: of the cases, see `read_part`.
        html_cases: a whole number from 0 on.
        slices_file: names drawn slices, see `SlicesFile`.
        image_dir, prob_dir: folders of evidence, which drawn slices are refined without.
        fine_mm, grid: each says on which grid there is a fine mask.
        inward_mm: by how much masks are taken inward, which drawn slices are not.
        mesh_mm, mesh_faces: of meshes, see `check_mesh_mm` and `check_faces`.

    Raises:
        SystemExit: one is not, or two exclude each other; with a plain message.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise SystemExit(f"Error: seed must be a whole number from 0 to {MOST_SEED}, not {shown(seed)}")
    try:
        torch.zeros(1, device=torch.device(device))  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError, AssertionError):
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu; no GPU that CUDA can use is seen here"
        raise SystemExit(f"Error: device {shown(device)} is not there: write {here}") from None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise SystemExit(f"Error: workers must be a whole number, 0 for one a core, not {shown(workers)}")
    try:
        read_part(str(part))
        check_html_cases(html_cases)
        SlicesFile.read(slices_file)
        check_mesh_mm(mesh_mm)
        check_faces(mesh_faces)
        check_fine(fine_mm)
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
    switches = {"html": html, "overwrite": overwrite, "fix_sides": fix_sides, "uncertainty": uncertainty}
    switches |= {"enlarged": enlarged, "sparse": sparse, "shared_faces": shared_faces, "second_reader": second_reader}
    switches |= {"add_missing": add_missing, "refine": refine}
    for name, switch in switches.items():
        try:
            is_true(switch)
        except ValueError:
            raise SystemExit(f"Error: {name} must be true or false, not {shown(switch)}") from None
    if slices_file and not is_true(sparse):
        raise SystemExit("Error: slices_file names drawn slices: add --sparse true, or leave it out")
    if inward_mm and is_true(sparse):
        raise SystemExit("Error: inward_mm moves masks, but drawn slices stay as drawn: leave out one of them")
    if inward_mm and not is_true(refine):
        raise SystemExit(
            "Error: inward_mm moves masks before they are refined, and refine is false: leave out one of them"
        )
    if is_true(add_missing) and is_true(sparse):
        raise SystemExit("Error: add_missing adds to whole masks, not to those of sparse: leave out one of them")
    if is_true(add_missing) and inward_mm:
        raise SystemExit("Error: inward_mm would move what add_missing draws, too: leave out one of them")
    if is_true(add_missing) and not image_dir:
        raise SystemExit("Error: add_missing draws structures from images: give their folder with --image_dir")
    if fine_mm and grid:
        raise SystemExit("Error: fine_mm and grid both say on which grid the fine mask is: leave out one of them")
    for name, folder in {"image_dir": image_dir, "prob_dir": prob_dir}.items():
        if folder and is_true(sparse):
            raise SystemExit(f"Error: {name} is not read with --sparse true: leave out one of them")
