"""Locks on bytes of a file: one description has a byte, or several share it, until it lets go or is closed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sse_fast.base.locks import try_lock, unlock


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptions of one file."""
    both = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield both[0], both[1]
    for descriptor in both:
        os.close(descriptor)


def test_a_byte_is_locked_by_one_description_at_a_time_and_each_byte_for_itself(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock(one, 7)
    assert not try_lock(other, 7)
    assert not try_lock(other, 7, shared=True)
    assert try_lock(other, 6)
    assert try_lock(other, 8)
    unlock(one, 7)
    assert try_lock(other, 7)


def test_a_byte_is_shared_by_all_who_want_no_more(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock(one, 0, shared=True)
    assert try_lock(other, 0, shared=True)
    assert not try_lock(one, 0)
    unlock(other, 0)
    assert try_lock(one, 0)


def test_a_lock_goes_with_the_last_descriptor_of_its_description(two: tuple[int, int]) -> None:
    one, other = two
    copy = os.dup(one)
    assert try_lock(one, 0)
    os.close(copy)  # not with the first, as locks of a process would
    assert not try_lock(other, 0)
    again = os.dup(one)
    os.close(one)
    assert not try_lock(other, 0)
    os.close(again)
    assert try_lock(other, 0)
    os.dup2(other, one)  # for the fixture to close


def test_what_is_no_answer_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        try_lock(descriptor, 0)
    assert try_lock(descriptor, 0, shared=True)
    os.close(descriptor)
