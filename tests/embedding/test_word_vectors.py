"""Word vectors in each of the three file formats; a missing word is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tripletcl.embedding import WordVectors
from tripletcl.errors import UserError

WORDS = ["the", ",", "dog", "Paris", "riding", "horse", "well", "known", "ice-cream", "café", "DVD", "dvd"]
WIDTH = 4
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), WIDTH)).astype(np.float32)


def glove(folder: Path) -> Path:
    """`word v1 ... vD`, no header; GloVe 840B also has words with spaces, such as `. . .`."""
    rows = [f"{word} {' '.join(map(repr, map(float, v)))}" for word, v in zip(WORDS, VECTORS, strict=True)]
    rows.insert(2, "dog . . " + " ".join(["9.0"] * WIDTH))
    path = folder / "glove.txt"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def word2vec_text(folder: Path) -> Path:
    """A header `count D`, and a blank before each line break, as the original tool writes it."""
    rows = [f"{word} {' '.join(map(repr, map(float, v)))} " for word, v in zip(WORDS, VECTORS, strict=True)]
    path = folder / "word2vec.vec"
    path.write_text("\n".join([f"{len(WORDS)} {WIDTH}", *rows]) + "\n", encoding="utf-8")
    return path


def word2vec_binary(folder: Path, line_break: bytes = b"\n") -> Path:
    """Header, then `word`, a blank, D little-endian float32, and in most files a line break."""
    rows = [
        word.encode() + b" " + v.astype("<f4").tobytes() + line_break for word, v in zip(WORDS, VECTORS, strict=True)
    ]
    path = folder / f"word2vec{len(line_break)}.bin"
    path.write_bytes(f"{len(WORDS)} {WIDTH}\n".encode() + b"".join(rows))
    return path


FORMATS = {
    "glove": glove,
    "word2vec text": word2vec_text,
    "word2vec binary": word2vec_binary,
    "word2vec binary without line breaks": lambda folder: word2vec_binary(folder, b""),
}


@pytest.fixture(params=FORMATS)
def vectors(request: pytest.FixtureRequest, tmp_path: Path) -> WordVectors:
    return WordVectors(FORMATS[request.param](tmp_path))


def encode(vectors: WordVectors, texts: Sequence[str]) -> Tensor:
    return torch.from_numpy(vectors.encode(texts))


def row(word: str) -> Tensor:
    return torch.from_numpy(VECTORS[WORDS.index(word)])


def test_every_word_has_its_vector(vectors: WordVectors) -> None:
    assert vectors.width == WIDTH
    encoded = encode(vectors, WORDS[::-1])
    assert encoded.dtype == torch.float32
    assert torch.equal(encoded, torch.from_numpy(VECTORS[::-1].copy()))


def test_case_falls_back(vectors: WordVectors) -> None:
    for text, word in {"Dog": "dog", "RIDING": "riding", "paris": "Paris", "DVD": "DVD", "dvd": "dvd"}.items():
        assert torch.equal(encode(vectors, [text])[0], row(word)), text


def test_several_words_are_averaged(vectors: WordVectors) -> None:
    expected = (row("riding") + row("the") + row("horse")) / 3
    assert torch.allclose(encode(vectors, ["dog", "Riding the horse"])[1], expected)


def test_joined_words_are_split_only_if_they_have_no_vector(vectors: WordVectors) -> None:
    assert torch.equal(encode(vectors, ["ice-cream"])[0], row("ice-cream"))
    for text in ("well-known", "Well_Known", "well/known"):
        assert torch.allclose(encode(vectors, [text])[0], (row("well") + row("known")) / 2)
    nested = encode(vectors, ["well-known dog"])[0]
    assert torch.allclose(nested, ((row("well") + row("known")) / 2 + row("dog")) / 2)


def test_an_unknown_word_is_named(vectors: WordVectors) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(vectors.path.name)}.*'unicorn' of 'riding unicorn'"):
        encode(vectors, ["dog", "riding unicorn"])
    with pytest.raises(UserError, match="'unicorn'"):
        encode(vectors, ["dog-unicorn"])
    with pytest.raises(UserError, match="'--'"):
        encode(vectors, ["--"])


def test_no_texts(vectors: WordVectors) -> None:
    assert encode(vectors, []).shape == (0, WIDTH)


def test_the_scan_stops_once_all_words_are_read(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("the 1 2\ndog 3 4\ncat 5 broken\n")
    vectors = WordVectors(path)
    assert encode(vectors, ["dog", "the"]).tolist() == [[3, 4], [1, 2]]
    with pytest.raises(UserError, match=r"long\.txt is damaged at the word 'cat'"):
        encode(vectors, ["cat"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in {
        "empty.txt": b"",
        "prose.txt": b"once upon a time\n",
        "one.txt": b"dog\n",
        "glove.bin": b"dog 1 2\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} is not a file of word vectors"):
            WordVectors(tmp_path / name)
    with pytest.raises(UserError, match=r"missing\.txt"):
        WordVectors(tmp_path / "missing.txt")


def test_a_binary_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = word2vec_binary(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    assert torch.equal(encode(WordVectors(path), ["dog"])[0], row("dog"))
    with pytest.raises(UserError, match=r"damaged: it ends after 11 of 12 words"):
        WordVectors(path).encode(["unicorn"])
