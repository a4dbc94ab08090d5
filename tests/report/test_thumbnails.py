"""Small pictures of cases."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from scripts.report.page_data import SlicesPage
from scripts.report.thumbnails import ADDED, PIXELS, REMOVED, thumbnail

GREEN = (40, 200, 60)


def decoded(text: str) -> np.ndarray:
    kind, _, content = text.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour) -> np.ndarray:
    return np.abs(picture - colour).max(axis=-1) < 50


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.2, 4.0)])
def test_the_slice_with_most_changes_is_seen_from_the_feet(image, spacing):
    initial, refined = np.zeros((2, 24, 20, 9), np.uint8)
    initial[4:20, 4:16, 2:7] = refined[4:20, 4:16, 2:7] = 1
    refined[18:20, 4:16, 5] = 0  # at the patient's right
    refined[4:20, 16:18, 5] = 1  # at the front
    grey = np.full((12, 20, 9), 200, np.uint8) if image else None
    slices = SlicesPage(np.eye(4), np.array(spacing), {"initial": initial, "refined": refined}, grey, [2, 1, 1])
    picture = decoded(thumbnail(slices, {1: GREEN}))
    height, width, _ = picture.shape
    assert max(height, width) == PIXELS and len(thumbnail(slices, {1: GREEN})) < 3000
    assert width / height == pytest.approx(22 * spacing[0] / (20 * spacing[1]), rel=0.1)
    removed, added = (np.argwhere(near(picture, colour)).mean(axis=0) for colour in (REMOVED, ADDED))
    assert removed[1] < 0.3 * width and added[0] < 0.35 * height
    assert near(picture, GREEN).mean() > 0.3
    assert near(picture[:2], (120, 120, 120) if image else (0, 0, 0)).mean() > 0.8


def test_a_mask_that_was_not_refined_has_one_too():
    initial = np.zeros((6, 5, 4), np.uint8)
    initial[2:4, 2:4, 1] = 2
    picture = decoded(thumbnail(SlicesPage(np.eye(4), np.ones(3), {"initial": initial}), {2: GREEN}))
    assert near(picture, GREEN).any()
