"""Locks between processes, atomic writes and translated errors."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch

from tripletcl.errors import UserError
from tripletcl.files import append_line, draft_of, locked, remove_drafts, translate_errors, write_text
from tripletcl.files.tensors import write_tensors

ROUNDS = 200


def count_up(lock: Path, counter: Path, barrier: Barrier) -> None:
    """Runs in a process of its own: reads, waits, writes; without a lock counts are lost."""
    barrier.wait(300)
    for _ in range(ROUNDS):
        with locked(lock):
            count = int(counter.read_text())
            time.sleep(0.0002)
            counter.write_text(str(count + 1))


def hold(lock: Path, barrier: Barrier) -> None:
    with locked(lock):
        barrier.wait(300)
        time.sleep(60)


def test_two_processes_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    lock, counter, barrier = tmp_path / "new" / "lock", tmp_path / "counter", context.Barrier(2)
    counter.write_text("0")
    processes = [context.Process(target=count_up, args=(lock, counter, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert int(counter.read_text()) == 2 * ROUNDS
    assert list(lock.parent.iterdir()) == []


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    process = context.Process(target=hold, args=(tmp_path / "lock", barrier))
    process.start()
    barrier.wait(300)
    with pytest.raises(UserError, match="it is busy"), locked(tmp_path / "lock", busy="it is busy"):
        pass
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(300)
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_an_error_inside_is_passed_on_and_lets_go(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock", busy="it is busy"):
        raise BlockingIOError
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_kind_keeps_its_cause() -> None:
    cause = KeyError("first")
    with pytest.raises(ValueError) as caught, translate_errors(Path("file")):
        raise ValueError("second") from cause
    assert caught.value.__cause__ is cause
    with pytest.raises(ValueError) as caught, translate_errors(Path("file")):
        raise ValueError("alone")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "may not be written")])
def test_a_full_disk_is_a_sentence(code: int, words: str) -> None:
    cause = OSError(code, "as the system says it")
    with pytest.raises(UserError, match=words) as caught, translate_errors(Path("file")):
        raise cause
    assert caught.value.__cause__ is cause


def test_what_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "before")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"the disk is full: .*/a could not be written"):
        write_text(tmp_path / "a", "after")
    assert (tmp_path / "a").read_text() == "before"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def write_slowly(path: Path, barrier: Barrier) -> None:
    """Runs in a process of its own: one draft is a file, another a folder."""
    with draft_of(path) as file, draft_of(path) as folder:
        file.write_text("half")
        (folder / "images").mkdir(parents=True)
        barrier.wait(300)
        time.sleep(60)


def test_drafts_of_a_killed_process_are_removed_by_the_next_that_writes_there(tmp_path: Path) -> None:
    """Not those of a living one, and nothing else."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    process = context.Process(target=write_slowly, args=(tmp_path / "a", barrier))
    process.start()
    barrier.wait(300)
    drafts = sorted(tmp_path.iterdir())
    others = [
        tmp_path / name
        for name in (".a.tmp", "a.123.tmp", ".a.x.tmp", ".a.9999999999.tmp", ".a.4194305-0@elsewhere.tmp")
    ]
    for other in others:
        other.write_text("of somebody else")
    write_text(tmp_path / "b", "while the other lives")
    assert len(drafts) == 2
    assert sorted(tmp_path.iterdir()) == sorted([*drafts, *others, tmp_path / "b"])
    process.kill()
    process.join(300)
    remove_drafts.cache_clear()  # as in a new process
    write_text(tmp_path / "b", "afterwards")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "b"])


def loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "a"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "a"


@pytest.mark.parametrize(
    "place", [loop, below_a_file, lambda folder: folder / ("a" * 300), lambda folder: Path("/proc/none/a")]
)
def test_a_place_where_nothing_can_be_written_is_a_sentence(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    for write in (write_text, append_line):
        with pytest.raises(UserError, match="cannot be written: ") as refused:
            write(path, "text")
        assert str(path) in str(refused.value)
    with pytest.raises(UserError, match="cannot be written: "), locked(path):
        pass


def test_a_file_that_grows_too_large_is_a_sentence(tmp_path: Path) -> None:
    """As for a quota, the system refuses to write more, within a library that has its own error."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_tensors(tmp_path / "a", {"a": torch.zeros(10_000)})
        except UserError as error:
            os._exit(7 if "a cannot be written: File too large" in str(error) and not list(tmp_path.iterdir()) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
