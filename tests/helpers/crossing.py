"""Label maps of which only a few slices are left, that may cross."""

import numpy as np


def crossed(label_map, places):
    """The label map with nothing but these slices, axis → indices."""
    few = np.zeros_like(label_map)
    for axis, own in places.items():
        np.moveaxis(few, axis, 0)[own] = np.moveaxis(label_map, axis, 0)[own]
    return few


def agree(one, other, places):
    """Whether two label maps are the same in these slices, axis → indices."""
    same = one == other
    return all(np.moveaxis(same, axis, 0)[own].all() for axis, own in places.items())


def spread_over(truth, counts):
    """Slices of a shape spread over its length along axes, axis → how many: axis → indices."""
    places = {}
    for axis, count in counts.items():
        found = np.flatnonzero(np.moveaxis(truth, axis, 0).any(axis=(1, 2)))
        places[axis] = [int(found[int((k + 0.5) * len(found) / count)]) for k in range(count)]
    return places
