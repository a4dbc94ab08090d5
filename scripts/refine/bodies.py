"""Bodies beside the organ: what is comparable to it in size is no island, but another organ in the same mask.

What is far from the rest for its size is an island even where no fit can tell, see `far_islands`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.runs import label_pieces
from ..geometry.surface import crop_box, grow
from ..organ.sides import COMPARABLE_SHARE, LEFT

SAMPLED = 2000  # surface voxels between which a gap is measured
SURE_PIECE = 0.8  # mean probability of a piece of the organ that nothing but the image expects
SMALL_SHARE = 0.05  # of the largest piece: larger ones may be a part of the organ that is broken off
FAR_RADII = 0.5  # of the ball of the largest piece's volume: nearer ones may have been cut off by a thin gap
TWIN_SHARE = (
    0.5  # of the organ: what is less on the wrong side is no second organ, where that side has a label of its own
)
# The larger a piece, the farther from the largest it must lie to be no part of the organ. The gap is in radii of the
# largest piece's ball, or in quarters of the organ's length where these are longer: pieces of a tube lie far apart.
SMALLER_SHARE, FARTHER = 0.1, 1.0
NEARLY_ALL = 0.8  # of a mask: a piece of so much shows where the organ lies
FARTHEST = 2.0  # anything that is no second organ


@dataclass(frozen=True)
class Body:
    """Pieces of a mask that lie together.

    Attributes:
        voxels: their indices (N, 3) in the mask's grid.
        volume_mm3: their volume.
        gap_mm: how far from the organ they lie; None where nothing of it is left.
        centre_world: their centroid, world mm.
    """

    voxels: np.ndarray
    volume_mm3: float
    gap_mm: float | None
    centre_world: tuple[float, float, float]

    @property
    def away(self) -> str:
        """Say how far away it is, such as ", 12 mm away"; "" where nothing of the organ is left."""
        return "" if self.gap_mm is None else f", {self.gap_mm:.0f} mm away"

    def beside(self, name: str) -> str:
        """Say what a user should know of it."""
        return (
            f"another body of {in_ml(self.volume_mm3)} beside the {name}{self.away}: two organs in one mask? "
            "It was left as it is; give each organ a mask of its own"
        )


def in_ml(volume_mm3: float) -> str:
    """Write a volume in ml, in two figures, or whole ml."""
    return f"{volume_mm3 / 1000:{'.0f' if volume_mm3 >= 99_500 else '.2g'}} ml"


def is_comparable(going: int, voxels: int) -> bool:
    """Return whether what goes of a mask is so much that a body comparable to the rest may be among it."""
    return going > 0 and going >= COMPARABLE_SHARE * (voxels - going)


def twin_share(organ: np.ndarray, other: np.ndarray, affine: np.ndarray, side: str) -> float:
    """Return from which share of an organ on a body beside it may be a second organ.

    Args:
        organ: (N, 3) voxels of the organ.
        other: (M, 3) voxels of the body.
        affine: (4, 4) voxel → world mm.
        side: "left" or "right" where the organ is of that side and the other side has a label of its own; else "".
    """
    if not side or not len(organ) or not len(other):
        return COMPARABLE_SHARE
    apart_mm = (affine[0, :3] @ (other.mean(0) - organ.mean(0))) * (1 if side == LEFT else -1)
    return TWIN_SHARE if apart_mm > 0 else COMPARABLE_SHARE


def other_bodies(
    mask: np.ndarray,
    kept: np.ndarray,
    affine: np.ndarray,
    together_mm: float,
    side: str = "",
) -> list[Body]:
    """Find what would go as islands, but is together comparable to what is kept.

    Args:
        mask: (X, Y, Z) bool.
        kept: (X, Y, Z) bool, what of the mask is to be kept.
        affine: (4, 4) voxel → world mm.
        together_mm: pieces nearer to each other than this are one body.
        side: see `twin_share`.

    Returns:
        The bodies; each has at least that share of the volume kept.
    """
    if not is_comparable(int(np.count_nonzero(mask & ~kept)), int(np.count_nonzero(mask))):
        return []
    organ = np.argwhere(kept)
    least = COMPARABLE_SHARE * len(organ)
    box = crop_box(mask)
    corner = np.array([s.start for s in box])
    pieces, count = label_pieces(mask[box])
    is_island = np.ones(count + 1, bool)
    is_island[np.unique(pieces[kept[box]])] = is_island[0] = False
    islands = is_island[pieces]
    groups, found = label_pieces(grow(islands, spacing_mm(affine), together_mm / 2.0))
    groups[~islands] = 0
    sizes = np.bincount(groups.ravel(), minlength=found + 1)
    bodies = []
    for number in np.flatnonzero(sizes[1:] >= max(least, 1.0)) + 1:
        voxels = np.argwhere(groups == number) + corner
        if len(voxels) < twin_share(organ, voxels, affine, side) * len(organ):
            continue
        gap_mm = _gap_mm(groups == number, kept[box], affine)
        volume_mm3 = len(voxels) * voxel_volume_mm3(affine)
        bodies.append(Body(voxels, volume_mm3, gap_mm, _centre_world(voxels, affine)))
    return bodies


def two_organs(mask: np.ndarray, affine: np.ndarray, side: str = "") -> str:
    """Say that a mask holds two bodies of comparable size, see `twin_share`; "" where it does not."""
    box = crop_box(mask)
    pieces, count = label_pieces(mask[box])
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if count < 2:
        return ""
    one, other = np.argsort(-sizes, kind="stable")[:2]
    organ, body = (np.argwhere(pieces == k + 1) for k in (one, other))
    if sizes[other] < twin_share(organ, body, affine, side) * sizes[one]:
        return ""
    volumes = " and ".join(in_ml(sizes[k] * voxel_volume_mm3(affine)) for k in (one, other))
    gap_mm = _gap_mm(pieces == one + 1, pieces == other + 1, affine)
    return (
        f"the mask holds two bodies, of {volumes}, {gap_mm:.0f} mm apart: two organs in one mask? "
        "Give each organ a mask of its own"
    )


def largest_body(mask: BoxedMask, affine: np.ndarray, length_mm: float) -> np.ndarray | None:
    """Return the largest piece of a mask, where it is most of the organ, (X, Y, Z) bool.

    Args:
        mask: of one structure.
        affine: (4, 4) voxel → world mm of the mask.
        length_mm: how long the organ usually is; infinite where nothing else tells whether it is the largest piece.

    Returns:
        The piece; None where it is all of the mask or less than half. Pieces of a tube may be its parts, so that there
        it must be `NEARLY_ALL`.
    """
    pieces, count = label_pieces(mask.part)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = int(sizes.max())
    is_tube = length_mm / 4.0 > _radius_mm(largest, affine)
    if count < 2 or largest < (NEARLY_ALL if is_tube else 0.5) * mask.count:
        return None
    body = np.zeros(mask.shape, bool)
    body[mask.box] = pieces == sizes.argmax()
    return body


@dataclass(frozen=True)
class Islands:
    """Pieces of a mask far from its largest one.

    Attributes:
        voxels: their indices (N, 3) in the mask's grid.
        count: how many pieces they are.
        volume_mm3: their volume.
        centre_world: their centroid, world mm.
    """

    voxels: np.ndarray
    count: int
    volume_mm3: float
    centre_world: tuple[float, float, float]

    def __str__(self) -> str:
        """Say how many and how large, such as "2 islands of together 0.31 ml"."""
        together = "" if self.count == 1 else "together "
        return f"{self.count} island{'s' * (self.count > 1)} of {together}{in_ml(self.volume_mm3)}"


def far_islands(mask: BoxedMask, affine: np.ndarray, length_mm: float, side: str = "") -> Islands | None:
    """Find what no fit is needed for to tell that it is not the organ: pieces far from the largest one for their size.

    Of a thin tube the pieces belong to the organ though it is broken. So nothing is found where another piece is as
    large as a second organ. Of the others, pieces of less than `SMALL_SHARE` of the largest count from `FAR_RADII` on,
    those of less than `SMALLER_SHARE` from `FARTHER` on, and all from `FARTHEST` on.

    Args:
        mask: of one structure.
        affine: (4, 4) voxel → world mm.
        length_mm: how long the organ usually is.
        side: see `twin_share`.

    Returns:
        The islands; None where there are none.
    """
    pieces, count = label_pieces(mask.part)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = int(sizes.max())
    if count < 2:
        return None
    first, second = np.argsort(-sizes, kind="stable")[:2]
    voxels, body = (np.argwhere(pieces == k) for k in (first, second))
    if sizes[second] >= twin_share(voxels, body, affine, side) * largest:
        return None
    organ = pieces == sizes.argmax()
    tree = cKDTree(apply_affine(affine, np.argwhere(organ & ~ndimage.binary_erosion(organ)).astype(float)))
    radius_mm = _radius_mm(largest, affine)
    unit_mm = max(radius_mm, length_mm / 4.0)
    voxels = np.argwhere((pieces > 0) & ~organ)
    numbers = pieces[tuple(voxels.T)]
    gaps_mm = np.full(count + 1, np.inf)
    np.minimum.at(gaps_mm, numbers, tree.query(apply_affine(affine, voxels.astype(float)))[0])
    far = (sizes < SMALL_SHARE * largest) & (gaps_mm > FAR_RADII * radius_mm)
    far |= (sizes < SMALLER_SHARE * largest) & (gaps_mm > FARTHER * unit_mm)
    far |= gaps_mm > FARTHEST * unit_mm
    far[0] = far[sizes.argmax()] = False
    if not far.any():
        return None
    found = voxels[far[numbers]] + [side.start for side in mask.box]
    many = int(np.count_nonzero(far))
    return Islands(found, many, len(found) * voxel_volume_mm3(affine), _centre_world(found, affine))


def crumbs(mask: np.ndarray, expected_mm: np.ndarray, probability: np.ndarray | None = None) -> np.ndarray:
    """Find what a voxel head leaves of islands: pieces smaller than `SMALL_SHARE` of the largest that nothing expects.

    Args:
        mask: (X, Y, Z) bool.
        expected_mm: (X, Y, Z) signed distance of where the organ is expected, mm.
        probability: (X, Y, Z) of what has seen an image, NaN where it says nothing; pieces that it is sure of stay.

    Returns:
        (X, Y, Z) bool, the pieces whose mean distance is outside, and mean probability below `SURE_PIECE`.
    """
    pieces, count = label_pieces(mask)
    if count < 2:
        return np.zeros_like(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    mean_mm = np.bincount(pieces.ravel(), expected_mm.ravel(), count + 1) / np.maximum(sizes, 1)
    gone = (sizes < SMALL_SHARE * sizes.max()) & (mean_mm > 0)
    if probability is not None:
        mean = np.bincount(pieces.ravel(), np.nan_to_num(probability).ravel(), count + 1) / np.maximum(sizes, 1)
        gone &= mean < SURE_PIECE
    gone[0] = False
    return gone[pieces]


def _radius_mm(voxels: int, affine: np.ndarray) -> float:
    """Return the radius of the ball of so many voxels."""
    return float(np.cbrt(3.0 * voxels * voxel_volume_mm3(affine) / (4.0 * np.pi)))


def _centre_world(voxels: np.ndarray, affine: np.ndarray) -> tuple[float, float, float]:
    """Return the centroid, world mm, of voxels, indices (N, 3)."""
    x, y, z = (round(float(v), 1) for v in apply_affine(affine, voxels.astype(float)).mean(0))
    return x, y, z


def _gap_mm(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> float | None:
    """Return the least distance (mm) between voxels of two masks (X, Y, Z) bool; None where one is empty."""
    clouds = [apply_affine(affine, np.argwhere(m & ~ndimage.binary_erosion(m)).astype(float)) for m in (one, other)]
    if not all(len(cloud) for cloud in clouds):
        return None
    thinned = [cloud[:: len(cloud) // SAMPLED + 1] for cloud in clouds]
    return float(cKDTree(thinned[0]).query(thinned[1])[0].min())
