"""Word vectors in files of GloVe and word2vec, which are scanned for the requested words."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError, excerpt


class WordVectors:
    """A text encoder that averages the vectors of a text's words.

    Reads GloVe text (`word v1 ... vD` per line), word2vec text (the same after a line `count D`) and word2vec binary
    (suffix `.bin`). Every call scans the file, and nothing of it stays in memory: give all known texts in one call.

    Args:
        path: The file.

    Raises:
        UserError: the file is missing or is not a file of word vectors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.binary = path.suffix == ".bin"
        try:
            with path.open("rb") as file:
                first = file.readline(1 << 20).split()
        except OSError as error:
            raise UserError(f"cannot read the word vectors {path}: {error.strerror}") from error
        self.has_header = len(first) == 2 and all(field.isdigit() for field in first)
        if not self.has_header and (self.binary or not _is_row(first)):
            expected = "`count width`" if self.binary else "`count width`, or a word and its numbers"
            raise UserError(f"{path} is not a file of word vectors: its first line should be {expected}")
        self.count = int(first[0]) if self.has_header else None
        self.width = int(first[1]) if self.has_header else len(first) - 1

    def __deepcopy__(self, memo: dict) -> WordVectors:
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as vectors `[n, width]` float32: the mean over each text's words.

        A word is looked up as written, in lower case, capitalised, and then as the mean of its parts between `-`, `/`
        and `_`.

        Raises:
            UserError: a word has no vector.
        """
        words = {word for text in texts for word in text.split()}
        vectors = self._find(words | {part for word in words for part in _parts(word)})
        rows = [np.mean([self._vector(word, text, vectors) for word in text.split()], axis=0) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.width)

    def _vector(self, word: str, text: str, vectors: dict[str, np.ndarray]) -> np.ndarray:
        for form in _forms(word):
            if form in vectors:
                return vectors[form]
        parts = _parts(word)
        if not parts:
            raise UserError(f"{self.path} has no vector for the word {excerpt(word)} of {excerpt(text)}")
        return np.mean([self._vector(part, text, vectors) for part in parts], axis=0)

    def _find(self, words: set[str]) -> dict[str, np.ndarray]:
        """Read the vectors of all forms of the words in the file; stop once each word was read as written."""
        wanted = {form.encode(): form for word in words for form in _forms(word)}
        missing = set(words)
        vectors: dict[str, np.ndarray] = {}
        for name, vector in self._scan(wanted.keys()) if words else ():
            vectors.setdefault(wanted[name], vector)
            missing.discard(wanted[name])
            if not missing:
                break
        return vectors

    def _scan(self, wanted: Iterable[bytes]) -> Iterable[tuple[bytes, np.ndarray]]:
        return self._scan_binary(set(wanted)) if self.binary else self._scan_text(set(wanted))

    def _scan_text(self, wanted: set[bytes]) -> Iterable[tuple[bytes, np.ndarray]]:
        with self.path.open("rb", buffering=1 << 20) as file:
            if self.has_header:
                file.readline()
            for line in file:
                name = line[: line.find(b" ")]
                if name not in wanted:
                    continue
                values = line.split()[1:]
                if len(values) > self.width:
                    continue  # one of GloVe's few words with spaces in them, not the word it begins with
                try:
                    yield name, np.array(values, dtype=np.bytes_).astype(np.float32).reshape(self.width)
                except ValueError as error:
                    raise UserError(f"{self.path} is damaged at the word {name.decode()!r}: {error}") from error

    def _scan_binary(self, wanted: set[bytes]) -> Iterable[tuple[bytes, np.ndarray]]:
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            position = data.find(b"\n") + 1
            for number in range(self.count or 0):
                space = data.find(b" ", position)
                end = space + 1 + 4 * self.width
                if space < 0 or end > len(data):
                    raise UserError(f"{self.path} is damaged: it ends after {number} of {self.count} words")
                name = data[position:space].lstrip(b"\n")  # some writers end a vector with a line break
                if name in wanted:
                    yield name, np.frombuffer(data[space + 1 : end], dtype="<f4")
                position = end


def _forms(word: str) -> tuple[str, str, str]:
    return word, word.lower(), word.capitalize()


def _parts(word: str) -> list[str]:
    """The parts of a word between hyphens, slashes and underscores; none if it has none of these."""
    parts = re.split(r"[-/_]", word)
    return [part for part in parts if part] if len(parts) > 1 else []


def _is_row(fields: Sequence[bytes]) -> bool:
    try:
        return len([float(field) for field in fields[1:]]) > 0
    except ValueError:
        return False
