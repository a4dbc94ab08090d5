"""Reconstruction: from the fitted field back to voxels and a mesh (METHOD 5).

The field is evaluated at the voxel centres of the original grid, in the organ's box only: coarsely everywhere, closely
near its surface. The mesh is drawn from the same fused signed distances (see `draw_mesh`), so both agree.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..geometry.affine import apply_affine, box_affine, spacing_mm
from ..geometry.boxed import Box
from ..geometry.resample import WorldGrid
from .gate import LIMIT_MM, Gate, beyond_box, dice, left_whole
from .lengths import Lengths
from .likeness import doubts, hopeless, unlike
from .narrow_band import COARSE_MM, FINE_CANONICAL, evaluate_near_surface
from .planes import FILLED, DrawnSlices
from .reconstruction import DRAWN, Measured, Reconstruction
from .seen import Readers, scene_of
from .settings import RefineSettings
from .sparse import follow as follow_drawn
from .stages import Fitted
from .stairs import mask_distance

MARGIN_MM = 15.0


class ReconstructShape:
    """Turns a fitted shape into a refined signed distance on the original grid.

    Args:
        settings: see `RefineSettings`.
        readers: the voxel heads of the structure, if the pack has such.
        side: "left" or "right" where the other side has a label of its own, see `bodies.twin_share`.
    """

    def __init__(self, settings: RefineSettings, readers: Readers | None = None, side: str = "") -> None:
        self.settings = settings
        self.readers = readers or Readers()
        self.side = side
        self.judge = Gate(settings, self.readers, side)

    def __call__(self, fitted: Fitted) -> Reconstruction:
        """Reconstruct one structure.

        Args:
            fitted: the structure; of one of drawn slices all else is the fit's to say.

        Raises:
            ValueError: the fit has left the grid.
        """
        measured = self.measure(fitted)
        drawn = fitted.drawn
        return self.judge(measured, fitted) if drawn is None else self.between(measured, fitted, drawn)

    def measure(self, fitted: Fitted) -> Measured:
        """Evaluate all signed distances of one structure.

        Raises:
            ValueError: the fit has left the grid.
        """
        chosen = self.settings
        mask, affine = fitted.mask, fitted.affine
        box = _box(fitted)
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
        grid = WorldGrid(box_affine(affine, [s.start for s in box]), shape)
        spacing = spacing_mm(affine)
        band = Lengths.of(fitted.prior).tau_mm + COARSE_MM if chosen.fusion else COARSE_MM
        fine_mm = FINE_CANONICAL / fitted.fit.similarity.scale
        fit_mm = evaluate_near_surface(fitted.fit.sdf_mm, grid, spacing, band, fine_mm)
        if not chosen.fusion:
            return Measured(box, grid, fit_mm, None, None)
        mask_mm, steps_mm = mask_distance(mask[box], spacing, LIMIT_MM)
        context_mm = None
        if fitted.context is not None:
            context_mm = evaluate_near_surface(partial(fitted.context.of, fitted.name), grid, spacing, 0.0)
        log_odds = None
        reader = self.readers.of(fitted.seen)
        if reader is not None and fitted.seen is not None:
            scene = scene_of(fitted, fitted.seen, box, grid, fit_mm, context_mm, reader.step_mm)
            log_odds = reader(scene, grid.shape)
        return Measured(box, grid, fit_mm, mask_mm, context_mm, log_odds, steps_mm)

    def between(self, measured: Measured, fitted: Fitted, drawn: DrawnSlices) -> Reconstruction:
        """Follow the fit between drawn slices, see `sparse`; a filled mask that it explains badly stays.

        Args:
            measured: of this structure.
            fitted: the structure, its mask filled between the slices.
            drawn: the slices.
        """
        mask, box = fitted.mask, measured.box
        initial, inside, outside = mask[box], measured.fit_mm < 0, beyond_box(mask, box)
        agreement = dice(initial, inside, len(outside))
        signs, lost = doubts(fitted, agreement), hopeless(fitted, agreement)
        if signs or lost:
            why = unlike(fitted.name, signs, FILLED) if signs else f"{FILLED}: {lost}"
            return left_whole(measured, fitted, agreement, why, DRAWN)
        signed_mm = follow_drawn(drawn.within(box), initial, measured.fit_mm, spacing_mm(fitted.affine))
        warnings = (fitted.fit.warning,) if fitted.fit.warning else ()
        gone = outside[~drawn.near(outside)]  # what was drawn stays
        return Reconstruction(box, signed_mm, inside, [], gone, 0, agreement, DRAWN, warnings)


def _box(fitted: Fitted) -> Box:
    """Slices of the mask's grid around the fitted shape, with a margin.

    Raises:
        ValueError: they lie outside of the grid.
    """
    cloud = fitted.fit.similarity.inverse().apply(fitted.prior.anchor_points.cpu().numpy())
    index = apply_affine(np.linalg.inv(fitted.affine), cloud)
    margin = np.ceil(MARGIN_MM / spacing_mm(fitted.affine))
    lower = np.maximum(np.floor(index.min(0) - margin), 0).astype(int)
    upper = np.minimum(np.ceil(index.max(0) + margin) + 1, fitted.mask.shape).astype(int)
    if (upper - lower < 2).any():
        raise ValueError("the fitted shape lies outside of the image")
    return (slice(lower[0], upper[0]), slice(lower[1], upper[1]), slice(lower[2], upper[2]))
