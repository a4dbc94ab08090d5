"""3D Slicer's segmentations whose segments overlap: one file of several label maps, "layers".

Only the segments of an organ pack are read. Where two of these overlap, no label map can hold both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .nrrd_file import Segment

Place = tuple[int, int]  # layer and value of a segment


def read_segments(
    layers: np.ndarray, segments: Sequence[tuple[Segment, int]]
) -> tuple[np.ndarray, dict[int, Place], dict[int, int]]:
    """Bring the segments of a pack into one label map.

    Args:
        layers: (X, Y, Z, layers).
        segments: those of the pack, with the pack's labels that they mean.

    Returns:
        (X, Y, Z) int32: the number of the segment a voxel belongs to, from 1 on. What is none of theirs in their layers
        has a number of its own, so that nothing grows into it.
        Number → place of a segment.
        Number → label of the pack.

    Raises:
        ValueError: two segments overlap that mean different labels; with their names.
    """
    numbers = np.zeros(layers.shape[:3], np.int32)
    meaning = {number: label for number, (_, label) in enumerate(segments, 1)}
    for number, (segment, label) in enumerate(segments, 1):
        inside = layers[..., segment.layer] == segment.value
        for other in np.unique(numbers[inside]):
            if other and meaning[int(other)] != label:
                raise ValueError(
                    f"{segments[int(other) - 1][0].name} and {segment.name} overlap, so no label map can hold both: "
                    "subtract one from the other in Slicer, or export each segment alone"
                )
        numbers[inside & (numbers == 0)] = number
    for layer in {segment.layer for segment, _ in segments}:
        numbers[(layers[..., layer] != 0) & (numbers == 0)] = len(segments) + 1
    return numbers, {number: (one.layer, one.value) for number, (one, _) in enumerate(segments, 1)}, meaning


def with_changes(layers: np.ndarray, places: dict[int, Place], changed: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """Return layers (X, Y, Z, layers) with what was changed of their segments; other segments keep their voxels.

    Args:
        layers: as they were read.
        places: number → place of a segment.
        changed: (X, Y, Z) bool, where another label of the pack is now.
        refined: (X, Y, Z) the numbers that are now.
    """
    result = layers.copy()
    for layer, value in places.values():
        result[changed & (layers[..., layer] == value), layer] = 0
    for number, (layer, value) in places.items():
        result[changed & (refined == number) & (result[..., layer] == 0), layer] = value
    return result
