"""The `template` command: what a pack's priors have learned, as meshes and a picture in the colours of correspondence.

The template is the zero level of T, the mean shape that of the instance of the mean code, and a mode the instances two
standard deviations off along a principal axis of the training codes (METHOD 2; the paper's Fig. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import trimesh
from torch import Tensor
from tqdm import tqdm

from ..cases.mesh import write_mesh
from ..organ.pack import OrganPack, Structure
from ..prior.correspondence import Correspondence, template_places
from ..prior.level_set import zero_level
from ..prior.prior import ShapePrior
from .gallery import Exhibit, draw_gallery
from .pictures import Camera

DEVIATIONS = 2.0  # how far the modes are shown, standard deviations
RESOLUTION = 112  # nodes of the meshing grid along an edge of the canonical cube


@dataclass(frozen=True)
class PriorShape:
    """A shape that a prior describes: its mesh in mm and where that lies on the template."""

    name: str
    mesh_mm: trimesh.Trimesh
    correspondence: Correspondence


def template(organ: str, output_dir: str, structure: str = "", modes: int = 3) -> str:
    """Export what the shape priors of an organ pack have learned: template, mean shape and modes of variation.

    A structure's files are <structure>_template.ply, <structure>_mean.ply, <structure>_mode<k>_minus.ply and
    _plus.ply (two standard deviations of the training codes' k-th principal component), and the picture
    template_<structure>.png. The meshes are in mm, in the axes of the prior's canonical frame. Every vertex has the
    point of the template it corresponds to (template_x, _y, _z, canonical) and that point's colour, so that the same
    colour is the same place in all of them, and in the <case>_<structure>.ply files which refinement writes.

    Args:
        organ: name of the organ pack, or path of its folder.
        output_dir: where meshes and pictures go.
        structure: the only structure to export; empty for all of the pack.
        modes: how many modes to export.

    Returns:
        What was written.

    Raises:
        OrganError: there is no such pack or structure.
        FileNotFoundError: a prior has not been trained.
        ValueError: there are not so many modes.
    """
    pack = OrganPack.load(organ)
    chosen = [pack.structure(structure)] if structure else list(pack.structures)
    priors = [ShapePrior.load(item.prior) for item in chosen]
    for item, prior in zip(chosen, priors, strict=True):
        if not 0 <= modes <= len(prior.code_mean):
            raise ValueError(f"modes must lie in [0, {len(prior.code_mean)}] for {item.name}, got {modes}")
    out = Path(output_dir)
    with tqdm(total=len(chosen) * (2 + 2 * modes), unit="shape", disable=None) as progress:
        for item, prior in zip(chosen, priors, strict=True):
            shapes = []
            for name, latent in latents(prior, modes):
                progress.set_postfix_str(f"{item.name} {name}", refresh=False)
                shapes.append(prior_shape(prior, name, latent))
                write_mesh(out / f"{item.name}_{name}.ply", shapes[-1].mesh_mm, shapes[-1].correspondence.vertex_data())
                progress.update()
            draw_prior(out / f"template_{item.name}.png", pack, item, shapes)
    names = ", ".join(item.name for item in chosen)
    return f"template, mean shape and {modes} modes of {names}: meshes and pictures in {out}"


def latents(prior: ShapePrior, modes: int) -> list[tuple[str, Tensor | None]]:
    """Names of the shapes to export and their whitened codes (A + H,); None for the template.

    The whitening that priors are saved with has the principal axes of the training codes as its columns, by falling
    variance: a unit of the k-th whitened code is one standard deviation of the k-th mode.
    """
    mean = torch.zeros_like(prior.code_mean)
    shapes: list[tuple[str, Tensor | None]] = [("template", None), ("mean", mean)]
    for mode in range(modes):
        for name, sign in (("minus", -1.0), ("plus", 1.0)):
            latent = mean.clone()
            latent[mode] = sign * DEVIATIONS
            shapes.append((f"mode{mode + 1}_{name}", latent))
    return shapes


def prior_shape(prior: ShapePrior, name: str, latent: Tensor | None, resolution: int = RESOLUTION) -> PriorShape:
    """Return the template (`latent` None) or the instance of whitened codes (A + H,) as a mesh with correspondence.

    Raises:
        ValueError: the field has no surface there.
    """
    field = prior.field
    if latent is None:
        mesh = zero_level(lambda points: field.template(points.to(prior.device))[:, 0].cpu(), resolution=resolution)
        places = _vertices(mesh)
    else:
        with torch.no_grad():
            alpha, beta = prior.split_codes(prior.codes_from_latent(latent)[None])
            weights = field.weights(beta)
        mesh = zero_level(
            lambda points: field.sdf(weights, alpha, points.to(prior.device)).cpu(), resolution=resolution
        )
        places = template_places(prior, weights, alpha, _vertices(mesh).to(prior.device))
    mesh.apply_scale(prior.scale_mm)
    return PriorShape(name, mesh, Correspondence.at(prior, places))


def draw_prior(path: Path, pack: OrganPack, structure: Structure, shapes: Sequence[PriorShape]) -> None:
    """Draw template and mean shape in the first row, and each mode from minus through the mean to plus below."""
    camera = Camera.upright(shapes[0].mesh_mm)
    back = Camera(-camera.right, camera.up, -camera.towards)

    def exhibit(shape: PriorShape, title: str, seen: Camera = camera) -> Exhibit:
        return Exhibit(title, shape.mesh_mm, shape.correspondence.colours, seen)

    mean = shapes[1]
    rows = [
        [exhibit(shapes[0], "template"), exhibit(mean, "mean shape"), exhibit(mean, "mean from the other side", back)]
    ]
    for number, (minus, plus) in enumerate(zip(shapes[2::2], shapes[3::2], strict=True), 1):
        rows.append(
            [
                exhibit(minus, f"mode {number}: −{DEVIATIONS:g} sd"),
                exhibit(mean, "mean shape"),
                exhibit(plus, f"mode {number}: +{DEVIATIONS:g} sd"),
            ]
        )
    draw_gallery(path, rows)


def _vertices(mesh: trimesh.Trimesh) -> Tensor:
    return torch.as_tensor(mesh.vertices, dtype=torch.float32)
