"""Colours of structures."""

import numpy as np

from scripts.report.palette import structure_colours


def test_structures_have_colours_of_their_own():
    colours = np.array(structure_colours(12), float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[np.triu_indices(12, 1)]
    assert apart.min() > 30
    assert structure_colours(3) == structure_colours(12)[:3]
    assert len(set(structure_colours(120))) == 120
