"""The commands with an index in a Lance table, named by its address."""

from __future__ import annotations

import json
import re
from pathlib import Path

import field
import pytest
from command_line import Command

pytest.importorskip("lance", reason='pylance is not installed: pip install "tripletcl[cluster]"')


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/photos.lance"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos, one of them broken."""
    folder = field.photos(tmp_path / "photos", "red", 3)[0].parent
    (folder / "broken.png").write_text("not an image")
    return folder


def test_an_address_takes_the_place_of_the_index_folder(
    run: Path, photos: Path, address: str, command: Command
) -> None:
    words = ("--store", address)
    assert (
        f"3 photos in {address}: 3 added, 0 changed, 0 removed, 1 skipped" in command("index", run, photos, *words).out
    )
    assert "0 added" in command("index", run, photos, *words).out
    command("index", run, photos, "--precision", "float16")
    for query in (("red",), ("?", "lying"), ("red", "--name", "*0*"), ("red", "+", "lying")):
        ((one, other),) = [[json.loads(command("query", run, *query, *more, "--json").out) for more in (words, ())]]
        assert [hit["path"] for hit in one["hits"]] == [hit["path"] for hit in other["hits"]]
        assert [hit["score"] for hit in one["hits"]] == pytest.approx([hit["score"] for hit in other["hits"]], abs=1e-4)
    about = json.loads(command("index", "info", run, *words, "--json").out)
    assert (about["index"], about["photos"], about["kind"], about["precision"]) == (address, 3, "flat", "float16")
    assert about["bytes"] > 3 * 2 * about["width"]
    assert command("index", "check", run, *words).out == f"{address} is as it was written\n"
    gone = next(photos.glob("*0*"))
    assert json.loads(command("index", "remove", run, gone, *words, "--json").out)["removed"] == 1
    assert not (Path.cwd() / "file:").exists()


def test_an_upgrade_and_a_lesson_follow_it(run: Path, photos: Path, address: str, command: Command) -> None:
    words = ("--index", address)
    command("index", run, photos, *words, "--stage", "1")
    assert command("query", run, "red", *words).out.count("tripletcl index upgrade") == 1
    field.photos(photos.parent / "more", "blue", 12)
    field.photos(photos.parent / "more", "green", 12)
    more = ("--images", photos.parent / "more")
    upgraded = json.loads(command("index", "upgrade", run, *words, *more, "--json").out)
    assert (upgraded["index"], upgraded["from_stage"], upgraded["stage"]) == (address, 1, 2)
    output = command("teach", run, "cyan lying", photos, *words)
    assert re.search(r"^index: (brought to stage 3|left at stage 2)", output.out, re.MULTILINE), output


def test_what_is_no_place_of_an_index_is_one_sentence(run: Path, address: str, command: Command) -> None:
    for place, sentence in (
        ("mongo://host/photos", "mongo://host/photos is no place of an index; allowed are a folder, a Lance table"),
        (address, f"no index in {address}"),
    ):
        output = command("query", run, "red", "--index", place)
        assert (output.code, output.err.count("\n")) == (2, 1)
        assert sentence in output.err
