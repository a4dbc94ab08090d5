"""Refine mutated inputs and count what goes wrong: `python -m tests.fuzz --count 2000 --seed 0`.

Prints a table with a row a kind of mutation. The exit code is 1 if anything went wrong; the inputs, results and logs
of those runs stay in the output folder, those of the others are removed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from tests.fuzz.fuzz import fuzz, table


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs")
    parser.add_argument("--output_dir", type=Path, help="where runs in which something went wrong are kept")
    parser.add_argument("--workers", type=int, default=1, help="how many runs at once")
    parser.add_argument("--kind", help="this kind of mutation only")
    parser.add_argument("--number", type=int, help="the input of this number only")
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked: there must be no threads
    folder = options.output_dir or Path(tempfile.mkdtemp(prefix="fuzz-"))
    rows, troubled = fuzz(folder, options.count, options.seed, options.workers, options.kind, options.number)
    print(table(rows))
    for job, found in troubled:
        said = ", ".join(what for what, times in found.troubles.items() if times)
        print(f"{job.kind}, input {job.numbers[0]}: {said}; {found.said}; see {job.folder}")
    return int(bool(troubled))


if __name__ == "__main__":
    sys.exit(main())
