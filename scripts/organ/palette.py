"""A colour of its own for every structure, however many there are."""

from __future__ import annotations

import colorsys

FIRST_HUE, GOLDEN = 0.36, 0.618034  # each hue lies far from those before it, the first from those of the stages
LATER = {3: 4, 4: 3}  # the fourth hue is a green like the first: four structures do without it
TONES = ((0.62, 0.88), (0.78, 0.70), (0.42, 0.96))  # saturation and value, in turn


def structure_colours(count: int) -> list[tuple[int, int, int]]:
    """Return `count` colours as (red, green, blue), 0 to 255; the n-th is the same whatever the count."""
    colours = []
    for n in range(count):
        red, green, blue = colorsys.hsv_to_rgb((FIRST_HUE + LATER.get(n, n) * GOLDEN) % 1.0, *TONES[n % len(TONES)])
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours
