"""The command `train` by torchrun: the same bits after a kill, and one sentence about a mistake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import field
import pytest
from launching import launched

from tripletcl.config import dump_config
from tripletcl.files import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of photos, and a config."""
    folder = field.workplace(tmp_path_factory.mktemp("launched"))
    augmentation = {"crop": (0.5, 1.0), "jitter": 0.2}
    (folder / "field.yaml").write_text(dump_config(field.settings(folder, augmentation=augmentation)))
    return folder


def train(place: Path, method: str, out: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    words = ["-m", "tripletcl", "train", place / "field.yaml", f"method={{name: accidents:{method}, lam: 3}}"]
    variables = {"TRIPLETCL_CACHE": str(place / "cache"), **variables}
    return launched(2, [*options, *words, "--out", place / out], **variables)


def sentences(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in ended.stderr.splitlines() if line.startswith("tripletcl: ")]


def test_a_run_goes_on_when_a_process_was_killed(place: Path) -> None:
    whole = train(place, "Killed", "whole")
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("run folder:") == 1  # one process speaks
    killed = train(place, "Killed", "killed", "--max-restarts=1", KILLED_MARK=str(place / "mark"))
    assert killed.returncode == 0, killed.stderr
    assert (place / "mark").exists()
    assert len(sentences(killed)) <= 1  # torchrun may end the other process before it says a word
    assert all("another process of the group has ended" in each for each in sentences(killed))
    assert field.models(place / "killed") == field.models(place / "whole")
    figures = [read_json(place / out / "result.json") for out in ("whole", "killed")]
    assert figures[0]["map_matrix"] == figures[1]["map_matrix"]


def test_a_loss_of_nan_is_one_sentence(place: Path) -> None:
    ended = train(place, "NotFinite", "nan")
    assert ended.returncode == 1  # torchrun's own
    codes = {line.split(":")[1].split()[0] for line in ended.stderr.splitlines() if "exitcode  :" in line}
    assert "2" in codes, ended.stderr
    assert codes <= {"2", "-15"}, ended.stderr  # torchrun may end the other process before it has ended by itself
    (sentence,) = sentences(ended)
    assert "the loss became nan in task 2" in sentence
    assert "the last checkpoint is kept" in sentence
