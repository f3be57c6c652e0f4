"""A file that a setting names is read again when it changes; what it said before holds while it says nothing that can
be taken."""

import logging
import os
from pathlib import Path

import pytest

from sse_fast.edge.files import WatchedFile


class Taken(list[bytes]):
    def __call__(self, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("it is bad")
        self.append(data)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def file(path: Path, taken: Taken) -> WatchedFile:
    file = WatchedFile(path, 16, taken)
    file.read()
    return file


def written(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_what_has_not_changed_is_read_once(file: WatchedFile, taken: Taken) -> None:
    for _ in range(3):
        await file.look()
    assert taken == [b"first"]


async def test_what_is_written_to_it_or_put_in_its_place_is_taken(file: WatchedFile, path: Path, taken: Taken) -> None:
    written(path, b"second")
    await file.look()
    other = path.with_name("other")
    written(other, b"third.")
    os.replace(other, path)
    await file.look()
    assert taken == [b"first", b"second", b"third."]


@pytest.mark.parametrize("wrong", [b"bad", b"x" * 17])
async def test_what_cannot_be_taken_is_said_once_and_changes_nothing(
    file: WatchedFile, path: Path, taken: Taken, wrong: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    written(path, wrong)
    for _ in range(3):
        await file.look()
    assert taken == [b"first"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "holds" in record.getMessage()
    written(path, b"second")
    await file.look()
    assert taken == [b"first", b"second"]


async def test_a_file_that_is_gone_changes_nothing_and_is_taken_when_it_is_back(
    file: WatchedFile, path: Path, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    os.unlink(path)
    for _ in range(3):
        await file.look()
    assert taken == [b"first"]
    assert len(caplog.records) == 1
    written(path, b"second")
    await file.look()
    assert taken == [b"first", b"second"]


@pytest.mark.parametrize("wrong", [b"bad", b"x" * 17])
def test_at_the_start_there_has_to_be_one(tmp_path: Path, taken: Taken, wrong: bytes) -> None:
    path = tmp_path / "keys"
    with pytest.raises(OSError, match="No such file"):
        WatchedFile(path, 16, taken).read()
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match="it "):
        WatchedFile(path, 16, taken).read()
