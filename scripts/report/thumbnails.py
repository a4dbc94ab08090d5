"""A small picture of a case for the table: the slice in which most was changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from .page_data import SlicesPage
from .surfaces import INITIAL, REFINED

PIXELS = 48  # at most, along either side
MARGIN = 3  # voxels around the masks
DARK = 0.6  # of the image's brightness, so that structures stand out
REMOVED, ADDED = (127, 166, 217), (232, 90, 70)
QUALITY = 60  # of WebP


def slices_of_interest(labels: Mapping[str, np.ndarray]) -> list[int]:
    """Return, for each axis, the slice with most changed voxels; without changes, with most of the mask.

    Args:
        labels: stage → (X, Y, Z).
    """
    initial = labels[INITIAL]
    interesting = labels[REFINED] != initial if REFINED in labels else np.zeros(initial.shape, bool)
    if not interesting.any():
        interesting = initial > 0
    return [int(interesting.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]


def thumbnail(slices: SlicesPage, colours: Mapping[int, tuple[int, int, int]]) -> str:
    """Return an axial slice as the address of a picture (`data:`), seen from the feet: the patient's right is left.

    Args:
        slices: of the case.
        colours: number of a structure's part → (red, green, blue).
    """
    z = slices_of_interest(slices.labels)[2]
    initial = slices.labels[INITIAL][:, :, z]
    refined = slices.labels.get(REFINED, slices.labels[INITIAL])[:, :, z]
    grey = np.zeros(initial.shape, float)
    if slices.image is not None:
        x, y, depth = (np.arange(n) // step for n, step in zip((*initial.shape, z + 1), slices.image_step, strict=True))
        grey = DARK * slices.image[:, :, depth[-1]][np.ix_(x, y)]
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    for number, colour in colours.items():
        picture[refined == number] = colour
    picture[(initial > 0) & (refined == 0)] = REMOVED
    picture[(initial == 0) & (refined > 0)] = ADDED
    seen = np.argwhere((initial > 0) | (refined > 0))
    lower, upper = (seen.min(axis=0), seen.max(axis=0) + 1) if len(seen) else (np.zeros(2, int), np.array(grey.shape))
    lower, upper = np.maximum(lower - MARGIN, 0), np.minimum(upper + MARGIN, grey.shape)
    part = picture[lower[0] : upper[0], lower[1] : upper[1]][::-1, ::-1].transpose(1, 0, 2)
    size_mm = (upper - lower) * slices.spacing_mm[:2]
    width, height = np.maximum(np.rint(size_mm / size_mm.max() * PIXELS), 1).astype(int)
    small = Image.fromarray(np.rint(part).astype(np.uint8)).resize((int(width), int(height)), Image.Resampling.BOX)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
