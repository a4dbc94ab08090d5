"""A made-up abdominal scan."""

import numpy as np

SHAPE = (40, 36, 20)


def scene():
    """A scan (X, Y, Z): an organ of 100 HU in front and low, fat, bone at the back, air above; and the organ's mask."""
    rng = np.random.default_rng(0)
    organ = np.zeros(SHAPE, bool)
    organ[8:30, 6:14, 4:9] = True
    scan = np.full(SHAPE, -90.0)
    scan[:, 20:, :] = 60
    scan[15:25, 22:30, :] = 700
    scan[:, :18, 12:] = -1000
    scan[10:20, 4:16, 13:] = 40
    scan[organ] = 100
    return organ.astype(np.uint8), (scan + rng.normal(0, 15, SHAPE)).clip(-1024).astype(np.int16)
