"""`report.html`: one page for a run that needs no network and no other file.

Each case's volumes and surfaces are packed into one text (see `pack`), which the page decodes when the case is opened.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import logging
import re
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..cases.files import write_text
from ..geometry.affine import spacing_mm
from ..organ.pack import OrganPack
from ..organ.palette import structure_colours
from .case_page import load_case
from .lines import summary_line
from .page_data import CasePage, SlicesPage
from .pictures import DEVIATION_COLOURS
from .run_folder import Run
from .run_report import shown, with_texts
from .sizes import size_line, unusual_sizes
from .surfaces import Surface
from .thumbnails import slices_of_interest, thumbnail
from .words import counted
from .worst import worst_first

logger = logging.getLogger(__name__)

PAGE = "report.html"
TEMPLATES = Path(__file__).parent / "page"
VIEWER = Path(__file__).parent / "vendor" / "plotly-gl3d.min.js"
SCRIPTS = ("payload.js", "slices.js", "surfaces.js", "findings.js", "cases.js", "main.js")
SHEET_PIXELS = 4096  # edge of a picture that holds slices; larger ones are too much for some browsers
IMAGE_QUALITY = 75  # of WebP
PICTURES_MB = 120  # cases beyond this have their figures on the page, but neither surfaces nor slices
HUNDREDTHS_MM = 100
MOST_SHOWN = 40  # characters of an option in a message
NO_ROOM = "Not drawn: the page would become too large, and worse cases come first. Run fewer cases into one folder."
NOT_ASKED = "Not drawn: html_cases asks for {}, and worse ones come first."


class Arrays:
    """Collects arrays into one block of bytes, each at an offset that is a multiple of 8."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: np.ndarray) -> dict[str, Any]:
        """Add an array and return where it lies: `type`, `offset` and `length` (of elements)."""
        content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        place = {"type": values.dtype.name, "offset": self.length, "length": int(values.size)}
        padded = content + bytes(-len(content) % 8)
        self.parts.append(padded)
        self.length += len(padded)
        return place


def pack(page: CasePage) -> str:
    """Return a case's volumes and surfaces as base64 of gzip of: length of the header, header (JSON), arrays.

    The header names type, offset and length of every array; offsets count from the end of the header.
    """
    arrays = Arrays()
    volumes = None if page.slices is None else _pack_slices(page.slices, arrays)
    surfaces = [
        {"structure": structure.name, **_pack_surface(surface, arrays)}
        for structure in page.structures
        for surface in structure.surfaces
    ]
    header = json.dumps({"volumes": volumes, "surfaces": surfaces}, separators=(",", ":")).encode()
    header += b" " * (-(4 + len(header)) % 8)
    block = struct.pack("<I", len(header)) + header + b"".join(arrays.parts)
    return base64.b64encode(gzip.compress(block, 6, mtime=0)).decode()


def _packed(page: CasePage) -> str:
    """Return what `pack` makes of a case; "" where there is nothing to draw, or it cannot be drawn."""
    try:
        return "" if page.slices is None else pack(page)
    except Exception as error:  # whatever it is, the other cases are to be shown
        logger.warning(f"{page.name} cannot be drawn: {type(error).__name__}: {error}")
        page.not_drawn(f"Not drawn: {error or type(error).__name__}")
        return ""


def _pack_surface(surface: Surface, arrays: Arrays) -> dict[str, Any]:
    """Pack a surface: vertices as 16 bit steps through their box, distances as hundredths of a millimetre."""
    points = surface.vertices_world
    origin = points.min(axis=0)
    unit = np.maximum((points.max(axis=0) - origin) / 65535.0, 1e-9)
    packed: dict[str, Any] = {
        "stage": surface.stage,
        "origin": origin.tolist(),
        "unit": unit.tolist(),
        "vertices": arrays.add(np.rint((points - origin) / unit).astype(np.uint16)),
        "faces": arrays.add(surface.faces.astype(np.uint16 if len(points) < 65536 else np.uint32)),
    }
    lengths = {"moved": surface.moved_mm, "error": surface.error_mm, "uncertainty": surface.uncertainty_mm}
    for key, distance_mm in lengths.items():
        if distance_mm is not None:
            packed[key] = arrays.add(np.rint((distance_mm * HUNDREDTHS_MM).clip(-32767, 32767)).astype(np.int16))
    if surface.place_rgb is not None:
        packed["place"] = arrays.add(surface.place_rgb)
    return packed


def _pack_slices(slices: SlicesPage, arrays: Arrays) -> dict[str, Any]:
    shape = next(iter(slices.labels.values())).shape
    return {
        "shape": list(shape),
        "spacing": slices.spacing_mm.tolist(),
        "affine": slices.affine.tolist(),
        "toVoxel": np.linalg.inv(slices.affine).tolist(),
        "tilt": _tilt_deg(slices.affine),
        "start": slices_of_interest(slices.labels),
        "labels": {stage: arrays.add(values.ravel(order="F")) for stage, values in slices.labels.items()},
        "image": None if slices.image is None else _pack_image(slices.image, slices.image_step, arrays),
    }


def _tilt_deg(affine: np.ndarray) -> float:
    """Return the largest angle between a voxel axis and the axis of the body that it runs nearest to."""
    directions = affine[:3, :3] / spacing_mm(affine)
    return float(np.degrees(np.arccos(np.clip(np.diag(directions), -1.0, 1.0)).max()))


def _pack_image(image: np.ndarray, step: list[int], arrays: Arrays) -> dict[str, Any]:
    """Pack an image (x, y, z) uint8 as WebP pictures of axial slices side by side: x along rows, y down them."""
    nx, ny, nz = image.shape
    columns = min(max(SHEET_PIXELS // nx, 1), int(np.ceil(np.sqrt(nz))))
    rows = min(max(SHEET_PIXELS // ny, 1), int(np.ceil(nz / columns)))
    sheets = []
    for first in range(0, nz, columns * rows):
        sheet = np.zeros((rows * ny, columns * nx), np.uint8)
        for number, z in enumerate(range(first, min(first + columns * rows, nz))):
            top, left = number // columns * ny, number % columns * nx
            sheet[top : top + ny, left : left + nx] = image[:, :, z].T
        stream = io.BytesIO()
        Image.fromarray(sheet).save(stream, "WEBP", quality=IMAGE_QUALITY, method=3)
        sheets.append(arrays.add(np.frombuffer(stream.getvalue(), np.uint8)))
    return {"shape": [nx, ny, nz], "step": step, "columns": columns, "rows": rows, "sheets": sheets}


def describe_run(run: Run, pages: Sequence[CasePage]) -> dict[str, Any]:
    """Return what the page knows before a case is opened: plain JSON values."""
    report = run.report
    settings = {key: value for key, value in report.get("settings", {}).items() if value not in (None, "")}
    about = {
        "command": report.get("command", ""),
        "started": f"{report.get('started', '')}, {report.get('seconds', 0):.0f} s on {report.get('device', '')}",
        "bundle": report.get("bundle", ""),
        **{key: str(value) for key, value in settings.items()},
        "versions": ", ".join(f"{name} {version}" for name, version in report.get("versions", {}).items()),
    }
    return {
        "title": f"{run.organ}: {report.get('job', 'run')}",
        "summary": f"{summary_line(report.get('summary', {}))} · {report.get('started', '')[:10]}",
        "sizes": [size_line(found) for found in unusual_sizes(report["cases"])],
        "about": [[key, text] for key, text in about.items() if text],
        "provenance": run.provenance,
        "colours": list(DEVIATION_COLOURS),
        "structures": [
            {"name": s.name, "numbers": run.numbers(s.name), "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
            for s, colour in zip(run.structures, structure_colours(len(run.structures)), strict=True)
        ],
        "cases": [_describe_case(number, page) for number, page in enumerate(pages)],
        "order": worst_first(report["cases"]),
    }


def _describe_case(number: int, page: CasePage) -> dict[str, Any]:
    record = page.record
    reported = {str(s["name"]) for s in record.get("structures", [])}
    return {
        "number": number,
        "name": page.name,
        "status": record.get("status", ""),
        "reason": record.get("reason", ""),
        "warnings": record.get("warnings", []),
        "notes": page.notes,
        "flags": page.flags,
        "totals": page.totals,
        "thumbnail": page.thumbnail,
        "seconds": record.get("seconds", {}),
        "structures": [
            {
                "name": s.name,
                "reported": s.name in reported,
                "failure": s.failure,
                "status": s.status,
                "doubtful": s.doubtful,
                "words": s.words,
                "figures": {key: float(value) if np.isfinite(value) else None for key, value in s.figures.items()},
                "regions": s.regions,
                "seconds": s.seconds,
            }
            for s in page.structures
        ],
    }


def render(described: dict[str, Any], payloads: dict[int, str]) -> str:
    """Return the page.

    Args:
        described: of `describe_run`.
        payloads: number of a case → its packed volumes and surfaces.
    """
    parts = {
        "title": html.escape(described["title"]),
        "style": (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "run": json.dumps(described, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "payloads": "\n".join(
            f'<script type="text/plain" id="payload-{number}">{text}</script>' for number, text in payloads.items()
        ),
        "plotly": VIEWER.read_text(encoding="utf-8"),
        "script": "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    return re.sub(
        r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (TEMPLATES / "page.html").read_text(encoding="utf-8")
    )


def check_html_cases(count: object) -> int:
    """Return how many cases a page draws, 0 for as many as it has room for.

    Raises:
        ValueError: it is no such number.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        given = repr(count)[:MOST_SHOWN]
        raise ValueError(f"html_cases must be a whole number, 0 for as many as the page has room for, not {given}")
    return count


def write_page(run: Run, most: int = 0) -> Path:
    """Write a run's page into its folder, whole or not at all; log how long it took, and whether all cases are drawn.

    Args:
        run: the run.
        most: how many cases are drawn, the worst first; 0 for as many as the page has room for. The others have a small
            picture and their figures, but for those that are taken from surfaces.

    Returns:
        Its path.
    """
    started = time.perf_counter()
    pages: dict[int, CasePage] = {}
    payloads: dict[int, str] = {}
    room = PICTURES_MB * 1e6
    colours = _colours_of_parts(run)
    order = worst_first(run.report["cases"])
    for place, number in enumerate(tqdm(order, desc="page", unit="case", disable=None)):
        drawn = room > 0 and (not most or place < most)
        page = load_case(run, run.report["cases"][number], surfaces=drawn)
        _add_thumbnail(page, colours)
        text = _packed(page) if drawn else ""
        if page.slices is not None and (not drawn or len(text) > room):
            page.not_drawn(NO_ROOM if not most or place < most else NOT_ASKED.format(counted(most, "case")))
            room = 0 if drawn else room
        elif text:
            payloads[number] = text
            room -= len(text)
        for structure in page.structures:
            structure.surfaces = []
        page.slices = None
        pages[number] = page
    path = run.folder / PAGE
    described = describe_run(run, [pages[number] for number in sorted(pages)])
    write_text(path, render(with_texts(described, shown), payloads))
    some = "" if len(payloads) == len(pages) else f", {len(payloads)} of {len(pages)} cases drawn"
    logger.info(f"{path} shows what was changed (written in {time.perf_counter() - started:.1f} s{some})")
    return path


def _colours_of_parts(run: Run) -> dict[int, tuple[int, int, int]]:
    """Return the number of each structure's parts → its colour."""
    colours = structure_colours(len(run.structures))
    return {part: colour for one, colour in zip(run.structures, colours, strict=True) for part in run.numbers(one.name)}


def _add_thumbnail(page: CasePage, colours: Mapping[int, tuple[int, int, int]]) -> None:
    """Give a case its small picture, where it can be drawn."""
    try:
        page.thumbnail = "" if page.slices is None else thumbnail(page.slices, colours)
    except Exception as error:  # whatever it is, the page can do without
        logger.warning(f"{page.name} has no small picture: {type(error).__name__}: {error}")


def try_page(run_dir: str | Path, pack: OrganPack | None = None, most: int = 0) -> Path | None:
    """Write a run's page; where that fails, log why and return None, because the run's results do not depend on it.

    Args:
        run_dir: output folder of a job.
        pack: the run's organ pack; None to read the one that the report names.
        most: how many cases are drawn, see `write_page`.
    """
    try:
        return write_page(Run.open(run_dir, pack=pack), most)
    except OSError as error:
        logger.error(f"{Path(run_dir) / PAGE} could not be written ({error}); the run's results are complete")
        return None
    except Exception:  # whatever it is, it must not spoil a run whose results are written
        logger.exception(f"{Path(run_dir) / PAGE} could not be written; the run's results are complete")
        return None
