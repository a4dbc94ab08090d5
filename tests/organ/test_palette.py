"""Colours of structures."""

import colorsys

import numpy as np

from scripts.organ.palette import structure_colours


def test_structures_have_colours_of_their_own():
    colours = np.array(structure_colours(12), float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[np.triu_indices(12, 1)]
    assert apart.min() > 30
    hues = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours[:4]])
    turns = np.abs(hues[:, None] - hues[None])[np.triu_indices(4, 1)]
    assert np.minimum(turns, 1 - turns).min() > 0.14 and not ((hues > 0.15) & (hues < 0.3)).any()  # no second green
    assert structure_colours(3) == structure_colours(12)[:3]
    assert len(set(structure_colours(120))) == 120
