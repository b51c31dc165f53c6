"""Names on the terminal: control characters, and characters that its encoding lacks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import field
import pytest
from command_line import Command

from tripletcl.cli.output import open_for_any_name, say
from tripletcl.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m.png", r"a\x1b[31m.png"),
        ("a\x9b31m\x07\x7f", r"a\x9b31m\x07\x7f"),
        ("gnp.\N{RIGHT-TO-LEFT OVERRIDE}a", r"gnp.\u202ea"),
        ("10.00\N{NARROW NO-BREAK SPACE}AM é \N{DOG FACE}", "10.00\N{NARROW NO-BREAK SPACE}AM é \N{DOG FACE}"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_control_characters_are_escaped_and_other_names_stay(text: str, shown: str) -> None:
    assert printable(text) == shown


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "encoding", "printed"),
    [
        (io.BytesIO, "ascii", b"\\xe9\\u2026\xff.png"),
        (io.BytesIO, "utf-8", "é\N{HORIZONTAL ELLIPSIS}".encode() + b"\xff.png"),
        (io.BytesIO, "latin-1", b"\xe9\\u2026\xff.png"),
        (Terminal, "ascii", b"\\xe9\\u2026\\xff.png"),
        (Terminal, "utf-8", "é\N{HORIZONTAL ELLIPSIS}".encode() + b"\\xff.png"),
    ],
)
def test_a_stream_takes_any_name(
    kind: type[io.BytesIO], encoding: str, printed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = kind()
    stream = io.TextIOWrapper(buffer, encoding)
    open_for_any_name(stream)
    monkeypatch.setattr("sys.stdout", stream)
    say("é\N{HORIZONTAL ELLIPSIS}\udcff.png")
    assert buffer.getvalue() == printed + b"\n"


def test_commands_escape_the_names_of_photos(
    run: Path, finished: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(finished / "cache"))
    photo = field.photo(tmp_path / "photos" / "red.png", "red", 1)
    for name in ("\x1b[31mé\n.png", "broken\x1b[2J.png"):
        (photo.parent / name).write_bytes(photo.read_bytes() if "broken" not in name else b"no image")
    outputs = [
        command("index", run, photo.parent),
        command("index", "info", run),
        command("query", run, "red"),
        command("query", run, "red\x1b[31m"),
        command("describe", run, *photo.parent.iterdir()),
        command("describe", run, photo.parent / "broken\x1b[2J.png"),
        command("index", "add", run, tmp_path / "missing\x1b[2J.png"),
    ]
    assert [output.code for output in outputs] == [0, 0, 0, 2, 0, 2, 2]
    assert all("\x1b" not in output.out + output.err for output in outputs)
    assert r"\x1b[31mé\n.png" in outputs[2].out
    for words in (("query", run, "red"), ("describe", run, *photo.parent.iterdir()), ("index", "info", run)):
        output = command(*words, "--json")
        assert output.out.isascii()
        json.loads(output.out)


def test_words_that_are_no_text_are_refused_in_a_sentence(run: Path, command: Command) -> None:
    field.photo(run.parent / "photos" / "red.png", "red", 1)
    command("index", run, run.parent / "photos")
    output = command("query", run, "dog\udcff")
    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("tripletcl: the request 'dog\\udcff' has bytes that are no text")


def test_messages_of_endless_words_are_short(run: Path, command: Command) -> None:
    endless = "a" * 100_000
    for words in (
        ("query", run, endless),
        ("describe", run, endless),
        ("query", endless, "red"),
        ("index", run, endless),
    ):
        output = command(*words)
        assert (output.code, output.out) == (2, "")
        assert output.err.startswith("tripletcl: ")
        assert len(output.err) < 600


def test_wrong_usage_repeats_little_of_what_was_typed_and_escapes_it(run: Path, command: Command) -> None:
    endless = "a b " * 10_000
    for words in (
        ("query", run, "red", "--\x1b[31mno"),
        ("\x1b[31mquery", run),
        ("query", run, "red", "-k", "\x1b[2J"),
        ("tasks", run, "\x1b[2J"),
        ("train", endless),
        ("train", "demo", f"seed={endless}"),
        ("train", "demo", f"model.text={endless}", f"data.{endless}=3"),
        ("evaluate", run, "--stage", endless),
        ("data", "check", endless),
    ):
        output = command(*words)
        assert (output.code, output.out) == (2, "")
        assert "\x1b" not in output.err
        assert len(output.err) < 1500


def test_a_minus_that_looks_like_an_option_is_explained(run: Path, command: Command) -> None:
    output = command("query", run, "red", "-blue")
    assert output.code == 2
    assert output.err.startswith("tripletcl: '-blue' would be an option; ")
    assert "would be an option" not in command("query", run, "red", "--blue").err
    assert "would be an option" not in command("query", run, "red", "-k1").err
