"""Write a split by sorted name into a pack's organ.yaml: `python -m tests.helpers.paper_split PACK LABELS 91 13 27`."""

import sys
from pathlib import Path

import yaml

from scripts.cases.find import list_masks


def write_split(pack: Path, labels: Path, counts: list[int]) -> None:
    """Replace the split of a pack: so many cases for training, validation and test, in the order of their names."""
    names = [file.name for file in list_masks(labels)]
    if len(names) != sum(counts):
        raise SystemExit(f"{labels} has {len(names)} label maps, not {sum(counts)}")
    file = pack / "organ.yaml"
    known = yaml.safe_load(file.read_text(encoding="utf-8"))
    ends = [sum(counts[:k]) for k in range(4)]
    parts = zip(("train", "validation", "test"), ends, ends[1:], strict=False)
    known["split"] = {part: names[begin:end] for part, begin, end in parts}
    file.write_text(yaml.safe_dump(known, sort_keys=False, default_flow_style=None, width=118), encoding="utf-8")


if __name__ == "__main__":
    write_split(Path(sys.argv[1]), Path(sys.argv[2]), [int(count) for count in sys.argv[3:6]])
