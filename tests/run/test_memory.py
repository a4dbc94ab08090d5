"""What is given back of a process' memory from case to case."""

import os
import sys

import psutil
import pytest

from scripts.run import case_work, memory
from tests.helpers.fake_run import run_refine
from tests.helpers.volumes import blocks, save

PIECES, PIECE, KEPT = 3000, 100_000, 50  # how many, bytes, every so-manieth stays in use


def resident() -> int:
    return psutil.Process().memory_info().rss


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone gives back pieces")
def test_free_pieces_between_others_are_given_back():
    before = resident()
    pieces = [bytearray(b"x" * PIECE) for _ in range(PIECES)]
    kept = pieces[::KEPT]
    del pieces
    memory.give_back()
    assert resident() - before < 0.3 * PIECES * PIECE and len(kept) == PIECES // KEPT


def test_a_c_library_without_a_way_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.give_back()


def test_each_case_begins_with_what_the_one_before_has_given_back(tmp_path, monkeypatch):
    for name in "abc":
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    calls = []
    for name in memory.COMPILED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(case_work, "give_back", lambda: calls.append([os.environ[name] for name in memory.COMPILED]))
    run_refine(tmp_path / "masks", tmp_path / "out")
    assert calls == [[memory.FEW] * 2] * 3


def test_what_a_user_has_set_for_onednn_stays(monkeypatch):
    monkeypatch.setenv(memory.COMPILED[0], "500")
    memory.keep_few_compiled()
    assert os.environ[memory.COMPILED[0]] == "500"
