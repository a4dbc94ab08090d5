"""`python -m scripts data`: from a download to `images/` and `labels/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from ..cases.errors import CaseError
from ..cases.files import write_text
from ..data import kits, lobes, msd, pancreas, segthor
from .case import Source
from .writer import write_case

SOURCES: Mapping[str, Source] = {
    "msd": msd.SOURCE,
    "pancreas": pancreas.SOURCE,
    "kits": kits.SOURCE,
    "lobes": lobes.SOURCE,
    "segthor": segthor.SOURCE,
}


def data(source: str, input_dir: str, output_dir: str, link: bool = False, download: str = "") -> str:
    """Bring a published data set into the layout that all jobs read: OUTPUT_DIR/images and /labels, NIfTI, one name.

    Voxels are never resampled: NIfTI files are copied or linked, DICOM series and NRRD files are rewritten as NIfTI on
    their own grids. DATA.md, beside them, holds licence, citation, labels and what was skipped or turned over.

    Args:
        source: msd (a task's folder with dataset.json), pancreas (NIH Pancreas-CT: DICOM folders PANCREAS_0001 and
            label0001.nii.gz), kits (case_00000/), lobes (Tang et al.'s .nrrd files), segthor (Patient_01/).
        input_dir: folder of the download.
        output_dir: where the layout goes.
        link: link to NIfTI files instead of copying them; converted ones are written all the same.
        download: msd only: download this task, such as Task04_Hippocampus, into INPUT_DIR first.

    Returns:
        What was written.

    Raises:
        ValueError: the source is unknown, or the folder holds none of its cases.
        SystemExit: a case was skipped; all others are written, and DATA.md names it with the reason.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source '{source}'; there are {', '.join(SOURCES)}")
    if download and source != "msd":
        raise ValueError(f"only msd can be downloaded; get {source} from {SOURCES[source].url}")
    chosen, folder, out = SOURCES[source], Path(input_dir), Path(output_dir)
    if download:
        folder = msd.download(download, folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; give the folder of the download")
    cases = chosen.list_cases(folder)
    labels = chosen.labels or msd.read_labels(folder)
    out.mkdir(parents=True, exist_ok=True)
    notes: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for case in tqdm(cases, desc=source, unit="case", disable=None):
        try:
            notes[case.name] = write_case(case, out, labels, link)
        except (CaseError, ValueError, OSError) as error:
            skipped[case.name] = str(error)
            tqdm.write(f"skipped {case.name}: {error}")
    write_text(out / "DATA.md", describe(chosen, labels, notes, skipped))
    done = f"{len(notes)} of {len(cases)} cases of {chosen.title}: {out}"
    if skipped:
        print(done)
        raise SystemExit(1)
    return done


def describe(source: Source, labels: Mapping[int, str], notes: Mapping[str, str], skipped: Mapping[str, str]) -> str:
    """Return DATA.md: where the data come from, under which terms, and what became of every case."""
    lines = [
        f"# {source.title}",
        "",
        f"- Source: {source.url}",
        f"- Licence: {source.licence}. It stays with these files and with what is learned from them.",
        f"- Cite: {source.citation}",
        f"- Labels: {', '.join(f'{value} {name}' for value, name in labels.items())}",
        f"- Cases written: {len(notes)}; skipped: {len(skipped)}",
    ]
    for title, entries in (("Skipped", skipped), ("Noted", {name: note for name, note in notes.items() if note})):
        if entries:
            lines += ["", f"## {title}", "", *(f"- {name}: {text}" for name, text in entries.items())]
    return "\n".join(lines) + "\n"
