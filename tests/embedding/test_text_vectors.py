"""A file of text vectors gives each process what any has encoded, and is seldom read and written."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tripletcl.embedding import text_vectors
from tripletcl.embedding.text_vectors import Encoded, TextFile, TextVectors, read_texts


def vectors(*texts: str) -> Encoded:
    return {text: np.full(4, len(text), np.float32) for text in texts}


def same(found: Encoded, expected: Encoded) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[text], expected[text]) for text in expected)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    read: list[Path] = []
    monkeypatch.setattr(text_vectors, "read_texts", lambda path: read.append(path) or read_texts(path))
    return read


def test_a_file_gives_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_vectors, "PAUSE", 0)
    rng, texts = np.random.default_rng(0), ["a", "to", "cat", "bird"]
    twin: Encoded = {}
    files = [TextFile(tmp_path / "cache" / "texts") for _ in range(2)]  # as of two processes
    for _ in range(30):
        file, chosen = files[rng.integers(2)], [text for text in texts if rng.random() < 0.3]
        found = file.find(chosen)
        assert same(found, {text: twin[text] for text in chosen if text in twin})
        new = vectors(*(text for text in chosen if text not in found))
        file.add(new)
        twin |= new
    assert same(read_texts(tmp_path / "cache" / "texts"), twin)


def test_new_texts_wait_for_the_next_time_that_the_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(text_vectors.time, "monotonic", lambda: now)
    file = TextFile(tmp_path / "texts")
    for text in ("a", "to", "cat"):
        file.add(vectors(text))
    assert same(read_texts(tmp_path / "texts"), vectors("a"))
    now += text_vectors.PAUSE
    file.add(vectors("bird"))
    assert same(read_texts(tmp_path / "texts"), vectors("a", "to", "cat", "bird"))
    file.add(vectors("horse"))
    del file
    gc.collect()
    assert same(read_texts(tmp_path / "texts"), vectors("a", "to", "cat", "bird", "horse"))


def test_a_file_is_not_read_for_a_text_that_it_did_not_have(tmp_path: Path, reads: list[Path]) -> None:
    writer, reader = TextFile(tmp_path / "texts"), TextFile(tmp_path / "texts")
    assert reader.find(["a"]) == {}
    assert reads == []  # there is none
    writer.add(vectors("a"))
    reads.clear()
    assert same(reader.find(["a", "to"]), vectors("a"))
    assert reader.find(["to", "cat"]) == reader.find(["bird"]) == {}
    assert len(reads) == 1


def test_a_folder_that_was_removed_is_not_made_again_at_the_end(tmp_path: Path) -> None:
    file = TextFile(tmp_path / "cache" / "texts")
    file.add(vectors("a"))
    file.add(vectors("to"))
    shutil.rmtree(tmp_path / "cache")
    del file
    gc.collect()
    assert not (tmp_path / "cache").exists()


class Counted:
    """Encodes a text as its length, and counts."""

    width = 4
    count = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.count += len(texts)
        return np.stack(list(vectors(*texts).values()))


def test_only_the_latest_texts_are_remembered() -> None:
    encoder = Counted()
    some = TextVectors(encoder, kept=3)
    texts = ["a", "to", "cat", "bird", "horse"]
    assert some(texts)[:, 0].tolist() == [1, 2, 3, 4, 5]  # more at once than are remembered
    assert some(["horse", "cat"])[:, 0].tolist() == [5, 3]
    assert encoder.count == 5
    assert some(["a", "horse"])[:, 0].tolist() == [1, 5]
    assert encoder.count == 6
    assert some(["cat"])[:, 0].tolist() == [3]  # forgotten for "a"
    assert encoder.count == 7
