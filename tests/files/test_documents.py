"""Documents and tensors carry the SHA-256 of their content; one that is damaged is refused in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tripletcl.errors import UserError
from tripletcl.files import read_json, reading, validated, write_json, write_text
from tripletcl.files.arrays import read_about
from tripletcl.files.tensors import read_tensors, write_tensors

DOCUMENT = {"facts": [["犬", None], "caf\udce9"], "score": 0.1 + 0.2, "few": {"2": 1, "10": (1, 2)}, "none": None}
TENSORS = {
    "images": torch.arange(6.0).reshape(2, 3).t(),
    "flags": torch.tensor([True, False]),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "one": torch.tensor(4),
    "none": torch.zeros(0, 3),
}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    write_json(tmp_path / "a.json", DOCUMENT)
    return tmp_path / "a.json"


@pytest.fixture
def tensor_file(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"trunk": "abc", "values": json.dumps({"x": 1})})
    return tmp_path / "a.safetensors"


def test_a_document_is_read_as_it_was_written(document: Path) -> None:
    assert read_json(document) == json.loads(json.dumps(DOCUMENT))
    assert json.loads(document.read_text()).keys() == {*DOCUMENT, "sha256"}  # any reader of JSON reads it


def test_a_document_of_version_0_1_has_no_digest(document: Path) -> None:
    document.write_text(json.dumps(DOCUMENT))
    assert read_json(document)["score"] == DOCUMENT["score"]


def test_tensors_are_read_as_they_were_written(tensor_file: Path) -> None:
    tensors, about = read_tensors(tensor_file)
    assert tensors.keys() == TENSORS.keys() == load_file(tensor_file).keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert about == {"trunk": "abc", "values": '{"x": 1}'}
    assert read_about(tensor_file)["trunk"] == "abc"


def test_tensors_without_entries_are_written(tmp_path: Path) -> None:
    ids = torch.from_numpy(np.arange(3)[np.zeros(3, dtype=bool)])  # numpy gives it a stride of 0
    tensors = {"ids": ids, "closed": torch.empty(0, 5), "one": torch.ones(())}
    write_tensors(tmp_path / "empty.safetensors", tensors)
    restored = read_tensors(tmp_path / "empty.safetensors").tensors
    assert {name: value.shape for name, value in restored.items()} == {n: t.shape for n, t in tensors.items()}


def test_tensors_of_version_0_1_have_no_digest(tensor_file: Path) -> None:
    for about in (None, {"trunk": "abc"}):
        save_file({"images": torch.ones(2)}, tensor_file, about)
        assert torch.equal(read_tensors(tensor_file).tensors["images"], torch.ones(2))
        assert read_about(tensor_file) == (about or {})


def values_of(read: object) -> dict[str, object]:
    return dict(read) if isinstance(read, dict) else {**read.about, **{k: v.tolist() for k, v in read.tensors.items()}}


@pytest.mark.parametrize(("name", "read"), [("document", read_json), ("tensor_file", read_tensors)])
def test_a_flipped_bit_is_refused_or_changes_nothing(
    name: str, read: Callable[[Path], object], request: pytest.FixtureRequest
) -> None:
    """Nothing that is read depends on a space, or on the name of the digest."""
    path: Path = request.getfixturevalue(name)
    raw, whole = path.read_bytes(), values_of(read(path))
    refusals: set[str] = set()
    accepted = 0
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            assert values_of(read(path)).items() >= whole.items()
            accepted += 1
        except UserError as error:
            refusals.add(str(error))
    assert accepted < 0.1 * len(raw)
    assert all(refusal.startswith(f"{path} is damaged (") and "\n" not in refusal for refusal in refusals)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe{}", b"[" * 100_000, b"\0" * 64, b'{"a": 1}x'])
def test_what_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    for read in (read_json, read_tensors, read_about):
        with pytest.raises(UserError, match=rf"{path} is damaged \(.*\): restore it from a copy$"):
            read(path)


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (read_json, read_tensors, read_about):
        with pytest.raises(UserError, match=r"a is missing: buy another"):
            read(tmp_path / "a", "buy another")
        with pytest.raises(UserError, match=f"{tmp_path} "):
            read(tmp_path)


def test_an_error_while_content_is_parsed_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x is damaged \(it lacks 'key'\): restore"), reading(tmp_path / "x"):
        dict[str, int]()["key"]
    with pytest.raises(UserError, match=r"x is damaged \(.*index.*\)"), reading(tmp_path / "x"):
        np.zeros(3)[7]
    with pytest.raises(UserError, match="of another kind"), reading(tmp_path / "x"):
        raise UserError("of another kind")


@dataclass(frozen=True)
class Point:
    """For `validated`."""

    x: float
    names: list[str]


def test_values_become_a_dataclass_only_if_their_types_are_right() -> None:
    assert validated(Point, {"x": 1, "names": ["a"]}) == Point(1.0, ["a"])
    assert validated(dict[str, Point], {"a": {"x": 1, "names": []}}) == {"a": Point(1.0, [])}


@pytest.mark.parametrize(
    ("values", "words"),
    [({"x": "?", "names": []}, "x: .*number"), ({"x": 1}, "names: "), ({"x": 1, "names": [2]}, r"names\.0: ")],
)
def test_a_value_of_another_type_is_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}.*$"):
        validated(Point, values)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "text")
        write_tensors(tmp_path / "b", TENSORS)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}
