"""Batches made by a thread are the batches of the loop itself, and the thread goes when it is no longer needed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ToySource, assert_same, run_toy, toy_tasks

from tripletcl.continual import Batch, Method, Training, ahead, plain_batches
from tripletcl.continual.ahead import DEPTH, ahead_of, made_ahead
from tripletcl.continual.task import epoch_batches
from tripletcl.data import Augment, ImageCache, ImageSource
from tripletcl.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a CPU worked by itself while Python goes on."""
    monkeypatch.setattr(ahead, "OVERLAPPING", {"cpu", "cuda"})


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def test_a_cpu_takes_its_batches_itself() -> None:
    batches = (number for number in range(3))
    assert ahead_of(CPU, batches) is batches
    assert ahead_of(None, batches) is batches


@pytest.mark.parametrize("start", [0, 2])
def test_the_same_batches_bit_for_bit(tmp_path: Path, start: int) -> None:
    """Of images, augmented, whole epochs and from their middle on."""
    pixels, paths = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8), []
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
        paths.append(tmp_path / f"{number:02}.png")
    source = ImageSource(ImageCache.open(paths, 24, tmp_path / "cache"), Augment(), CPU)
    task = toy_tasks()[0]

    def batches() -> Any:
        return epoch_batches(task, source, batch_size=9, seed=(0, 1), start=start, device=CPU)

    ours, plain = list(made_ahead(batches(), CPU)), list(batches())
    assert len(ours) == 5 - start
    for left, right in zip(ours, plain, strict=True):
        assert np.array_equal(left.items, right.items)
        assert torch.equal(left.inputs, right.inputs)
        assert torch.equal(left.targets, right.targets)


def test_plain_batches_are_made_ahead_where_a_device_is_named(on_any_device: None) -> None:
    source, items, threads = ToySource(), np.arange(50), set()
    batch = source.batch

    def recorded(*arguments: Any) -> torch.Tensor:
        threads.add(threading.current_thread())
        return batch(*arguments)

    source.batch = recorded  # type: ignore[method-assign]
    plain = list(plain_batches(source, items, 16))
    assert threads == {threading.main_thread()}
    threads.clear()
    ours = list(plain_batches(source, items, 16, CPU))
    assert len(threads) == 1
    assert threads != {threading.main_thread()}
    for left, right in zip(ours, plain, strict=True):
        assert torch.equal(left, right)


def counted(made: list[int], total: int, error: BaseException | None = None) -> Iterator[torch.Tensor]:
    for number in range(total):
        made.append(number)
        yield torch.tensor(number)
    if error is not None:
        raise error


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_so_many_are_made_ahead(depth: int) -> None:
    made: list[int] = []
    with closing(made_ahead(counted(made, 20), CPU, depth)) as batches:
        for number, batch in enumerate(batches):
            assert batch.item() == number
            deadline = time.monotonic() + 5
            while len(made) < min(20, number + 1 + depth) and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(made) == min(20, number + 1 + depth)


@pytest.mark.parametrize("error", [UserError("an image is gone"), KeyError("row"), MemoryError()])
def test_an_error_arrives_as_it_was_after_the_batches_before_it(error: BaseException) -> None:
    batches = made_ahead(counted([], 3, error), CPU)
    assert [next(batches).item() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(batches)
    assert caught.value is error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_left_half_way_the_thread_ends_and_makes_no_more(error: type[BaseException]) -> None:
    made: list[int] = []

    def use() -> None:
        with closing(made_ahead(counted(made, 1000), CPU)) as batches:
            for batch in batches:
                if batch.item() == 3:
                    raise error

    with pytest.raises(error):
        use()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches ahead")]
    assert len(made) <= 4 + DEPTH


def test_a_run_is_the_same_with_batches_made_ahead_however_often_it_is_stopped(
    tmp_path: Path, on_any_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(epochs=2, batch_size=16, lr=0.05, checkpoint_minutes=0)

    def run(folder: str, **settings: Any) -> Any:
        return run_toy(tmp_path / folder, Method(), tasks=toy_tasks(2), training=training, **settings)[0]

    whole = run("whole")
    for attempt in itertools.count(1):
        try:
            pieces = run("pieces", stop_after=4)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
    assert attempt > 1
    monkeypatch.setattr(ahead, "OVERLAPPING", set())
    plain = run("plain")
    assert_same(whole, pieces)
    assert_same(whole, plain)


def test_batches_are_made_by_a_thread_in_training(
    tmp_path: Path, on_any_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: set[str] = set()
    batch: Callable[..., torch.Tensor] = ToySource.batch

    def recorded(self: ToySource, ids: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
        if generator is not None:
            names.add(threading.current_thread().name.partition("_")[0])
        return batch(self, ids, generator)

    monkeypatch.setattr(ToySource, "batch", recorded)
    run_toy(tmp_path, Method(), tasks=toy_tasks(1))
    assert names == {"batches ahead"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_batch_is_overwritten_before_it_was_used() -> None:
    pixels = torch.randint(0, 256, (64, 1 << 16), dtype=torch.uint8).pin_memory()

    def batches() -> Iterator[torch.Tensor]:
        for row in pixels:
            yield row.to("cuda", non_blocking=True).float()

    sums = []
    for batch in made_ahead(batches(), torch.device("cuda")):
        torch.cuda._sleep(1_000_000)  # the thread is far ahead of what works on the batch
        sums.append(batch.sum())
        del batch
    assert torch.equal(torch.stack(sums).cpu(), pixels.float().sum(1))


class Elsewhere(torch.Tensor):
    """Stands for a tensor on a GPU."""

    is_cuda = True  # type: ignore[assignment]


class Streams:
    """Stands for `torch.cuda`'s streams and events; writes down who waits for what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.here = threading.local()
        for name in ("Stream", "default_stream", "current_stream", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(Elsewhere, "record_stream", lambda t, s: self.log.append(f"{int(t)} used by {s.name}"))

    class Named:
        def __init__(self, name: str, log: list[str]) -> None:
            self.name, self.log, self.events = name, log, itertools.count()

        def wait_stream(self, other: Any) -> None:
            self.log.append(f"{self.name} waits for {other.name}")

        def wait_event(self, event: str) -> None:
            self.log.append(f"{self.name} waits for {event}")

        def record_event(self) -> str:
            return f"event {next(self.events)} of {self.name}"

    def Stream(self, device: torch.device) -> Any:
        return self.Named("own", self.log)

    def default_stream(self, device: torch.device) -> Any:
        return self.Named("usual", self.log)

    def current_stream(self, device: torch.device) -> Any:
        return getattr(self.here, "stream", None) or self.Named("usual", self.log)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.here.stream = stream
        yield
        self.here.stream = None


def test_who_waits_for_whom_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    streams, made_on = Streams(monkeypatch), []

    def batches() -> Iterator[Batch]:
        for number in range(3):
            made_on.append(streams.current_stream(torch.device("cuda")).name)
            inputs, targets = (torch.tensor(n).as_subclass(Elsewhere) for n in (number, 10 + number))
            yield Batch(inputs, targets, np.arange(1))

    assert [int(batch.inputs) for batch in made_ahead(batches(), torch.device("cuda"))] == [0, 1, 2]
    assert made_on == ["own"] * 3
    assert streams.log[0] == "own waits for usual"
    assert streams.log[1:] == [
        line
        for n in range(3)
        for line in (f"usual waits for event {n} of own", f"{n} used by usual", f"{10 + n} used by usual")
    ]
