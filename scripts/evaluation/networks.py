"""Several networks' masks in one comparison: their folders, and what becomes of their good and of their poor masks."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.files import write_csv, write_text
from ..cases.find import masks_of
from ..cases.sources import LabelSource
from ..metrics.statistics import HARM_DSC
from .scoring import REFERENCE
from .tables import markdown_table

logger = logging.getLogger(__name__)

STRATA = (("below 70", -math.inf, 70.0), ("70–85", 70.0, 85.0), ("85 and above", 85.0, math.inf))  # the initial DSC
EVERY_MASK = "all"  # the stratum of all masks
EVERY_NETWORK = "all networks"
GAIN_DSC = 2.0  # points of DSC that a mask must gain to count as mended
FIGURES = ("n", "DSC % before", "after", "change", f"lost > {HARM_DSC:g}, %", f"gained ≥ {GAIN_DSC:g}, %")

Pairs = Mapping[tuple[str, str], Sequence[tuple[float, float]]]
"""(network, structure) → DSC % before and after, one a mask."""


def network_folders(mask_dir: str, source: LabelSource) -> dict[str, Path]:
    """Return network → its folder of label maps, sorted; {} where `mask_dir` is one network's own folder.

    A folder whose subfolders are cases, as TotalSegmentator and MONAI leave them, is one network's. Folders without
    label maps beside those of networks are named in a warning.

    Args:
        mask_dir: a pattern of folders such as 'networks/*', or a folder that holds no label maps but folders with some.
        source: how the masks are read.

    Raises:
        ValueError: a pattern fits no folder with label maps, or two folders would have the same name.
    """
    root = Path(mask_dir)
    if root.exists() or not has_magic(mask_dir):
        is_one = not root.is_dir() or masks_of(root) or source.holds_cases_in_folders(root)
        found = [] if is_one else sorted(root.iterdir())
    else:
        found = [Path(name) for name in sorted(glob(mask_dir))]
    found = [folder for folder in found if folder.is_dir() and folder.name[0] != "."]
    folders = [folder for folder in found if masks_of(folder)]
    if not folders and not root.exists() and has_magic(mask_dir):
        raise ValueError(f"no folder with label maps fits {mask_dir}: check the pattern, and put it in quotes")
    differ = [n for n, parts in enumerate(zip(*(f.parts for f in folders), strict=True)) if len(set(parts)) > 1]
    networks: dict[str, Path] = {}
    for folder in folders:
        name = "_".join(folder.parts[n] for n in differ) or folder.name
        if name in networks:
            raise ValueError(f"{networks[name]} and {folder} would both be called {name}: rename one")
        networks[name] = folder
    left_out = [str(folder) for folder in found if folder not in folders]
    if networks and left_out:
        logger.warning(
            "not compared, for they hold no label maps (subfolders are not searched): %s", ", ".join(left_out)
        )
    return networks


def read_pairs(metrics_csv: Path, preset: str) -> dict[str, list[tuple[float, float]]]:
    """Return structure → DSC % before and after a preset, one a mask, of a benchmark's `metrics.csv`."""
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dsc"]]
    before = {(row["case"], row["structure"]): float(row["dsc"]) for row in rows if row["method"] == REFERENCE}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        key = row["case"], row["structure"]
        if row["method"] == preset and key in before:
            found.setdefault(row["structure"], []).append((before[key], float(row["dsc"])))
    return found


def stratify(pairs: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return a row of figures for all masks, and for those of each stratum that has some.

    Args:
        pairs: DSC % before and after, one a mask.
    """
    before, after = np.array(pairs, float).reshape(-1, 2).T
    change = after - before
    rows = []
    for name, low, high in ((EVERY_MASK, -math.inf, math.inf), *STRATA):
        inside = (before >= low) & (before < high)
        if inside.any():
            rows.append(
                {
                    "stratum": name,
                    "n": int(inside.sum()),
                    "dsc_before": float(before[inside].mean()),
                    "dsc_after": float(after[inside].mean()),
                    "harmed_percent": 100.0 * float((change[inside] < -HARM_DSC).mean()),
                    "gained_percent": 100.0 * float((change[inside] >= GAIN_DSC).mean()),
                }
            )
    return rows


def write_networks(folder: Path, title: str, notes: Sequence[str], presets: Mapping[str, Pairs]) -> Path:
    """Write `networks.md` and `networks.csv`: networks × structures, and the strata of each.

    Args:
        folder: where to.
        title: heading.
        notes: paragraphs under it.
        presets: preset → the DSC of its masks.

    Returns:
        The path of `networks.md`.
    """
    parts = [
        f"# {title}",
        *notes,
        f"The strata are of the initial DSC. Lost: more than {HARM_DSC:g} points of DSC; gained: {GAIN_DSC:g} or more; "
        "both in % of the masks. Masks of one patient by several networks are not independent.",
    ]
    lines: list[dict[str, Any]] = []
    for preset, pairs in presets.items():
        networks = list(dict.fromkeys(network for network, _ in pairs))
        structures = list(dict.fromkeys(structure for _, structure in pairs))
        body = [[network, *(_before_after(pairs.get((network, s), ())) for s in structures)] for network in networks]
        parts += [f"## {preset}: mean DSC before → after", markdown_table(("network", *structures), body)]
        every = {(EVERY_NETWORK, s): [pair for n in networks for pair in pairs.get((n, s), ())] for s in structures}
        rows = [
            {"preset": preset, "network": network, "structure": structure, **row}
            for (network, structure), own in (dict(pairs) | (every if len(networks) > 1 else {})).items()
            for row in stratify(own)
        ]
        body = [[row["network"], row["structure"], row["stratum"], *_figures(row)] for row in rows]
        heads = ("network", "structure", "initial DSC", *FIGURES)
        parts += [f"## {preset}: by initial DSC", markdown_table(heads, body)]
        lines += rows
    write_csv(folder / "networks.csv", lines)
    write_text(folder / "networks.md", "\n\n".join(parts) + "\n")
    return folder / "networks.md"


def _before_after(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "–"
    before, after = np.mean(pairs, axis=0)
    return f"{before:.1f} → {after:.1f}"


def _figures(row: Mapping[str, Any]) -> list[str]:
    change = f"{row['dsc_after'] - row['dsc_before']:+.2f}"
    shares = (f"{row[name]:.1f}" for name in ("harmed_percent", "gained_percent"))
    return [str(row["n"]), f"{row['dsc_before']:.1f}", f"{row['dsc_after']:.1f}", change, *shares]
