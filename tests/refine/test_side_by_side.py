"""Structures side by side: the same results in the same order, and never two of a large image."""

import threading
import weakref

import pytest
import torch

from scripts.refine.side_by_side import LARGE_VOXELS, side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def most_at_once(voxels):
    """Return how many of six items were at work at a time, at most; each waits for a second one to join it."""
    lock, joined, now, most = threading.Lock(), threading.Event(), 0, 0

    def work(item):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now > 1:
                joined.set()
        joined.wait(0.1)
        with lock:
            now -= 1
        return item**2

    assert side_by_side(work, range(6), voxels) == [0, 1, 4, 9, 16, 25]
    return most


def test_two_structures_of_an_image_are_done_at_a_time(two_threads):
    assert most_at_once(1000) == 2


def test_structures_of_a_large_image_are_done_one_after_another(two_threads):
    assert most_at_once(LARGE_VOXELS + 1) == 1


def test_a_process_of_one_thread_does_one_after_another():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert most_at_once(1000) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("voxels", "most"), [(1, 4), (LARGE_VOXELS + 1, 2)])
def test_masks_are_made_as_work_begins_on_them(two_threads, voxels, most):
    """Two at work, one that is made, and one that waits; each is as large as the image."""
    alive, held = weakref.WeakSet(), []

    class Mask:
        pass

    def masks():
        for _ in range(12):
            mask = Mask()
            alive.add(mask)
            yield mask
            del mask
            held.append(len(alive))

    side_by_side(lambda mask: None, masks(), voxels)
    assert len(held) == 12 and max(held) <= most


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_reaches_the_caller_and_ends_the_work(two_threads, bad):
    begun = []

    def work(item):
        begun.append(item)
        if item >= bad:
            raise ValueError(item)

    with pytest.raises(ValueError, match=f"^{bad}$"):
        side_by_side(work, range(50), 1)
    assert len(begun) < 10
