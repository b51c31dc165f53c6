"""A run folder: settings, metrics written as they happen, checkpoints that survive a kill at any moment.

RUN/config.yaml           the resolved settings; a folder of other settings is refused
RUN/environment.json      versions and machine
RUN/tables/               the tables that it learned from, as they were then
RUN/kept/                 what would else be computed again: vectors of texts, test images' features of a still trunk
RUN/metrics.jsonl         one line a logged step ("train"), a finished stage ("stage"), a tried lam ("attempt"), photos
                          that importance was measured on ("adapt")
RUN/checkpoints/*.safetensors
RUN/stages/stage-02/      the model after task 2 (`FactEmbedder.from_pretrained`)
RUN/result.json           the figures, when all is done
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tripletcl.continual.checkpoint import State, base_of, load_state, load_values, save_state
from tripletcl.errors import UserError
from tripletcl.files import append_line, locked, write_text

log = logging.getLogger("tripletcl")

SETTINGS = "config.yaml"
KEPT_CHECKPOINTS = 2

DIGITS = {"stage": 3, "attempt": 3, "epoch": 5, "step": 7}
"""Of a position's numbers in a checkpoint's name: names in order are positions in order."""


@dataclass(frozen=True, order=True)
class Position:
    """The next thing to do: batch `step` of epoch `epoch` of task `stage` (all from 0).

    Where a method's weight is being chosen a task is learned several times; else there is attempt 0 alone.
    """

    stage: int = 0
    attempt: int = 0
    epoch: int = 0
    step: int = 0


class RunFolder:
    """Opens or makes a run folder; `locked` keeps others out.

    Args:
        path: The folder.
        config: Its settings, as text.
        environment: Versions and machine, kept with a new run.
        kept_from: Checkpoints at the start of this stage and of every later one are kept, so that what was learned
            there can be taken back; the later ones lean on the first. None keeps the newest two alone.

    Raises:
        UserError: the folder holds something else, or a run of other settings.
    """

    def __init__(
        self, path: Path, config: str, environment: dict[str, Any] | None = None, kept_from: int | None = None
    ) -> None:
        self.path, self.kept_from = Path(path), kept_from
        self._holds_lock = False
        self._claim(config)
        if environment is not None and not (self.path / "environment.json").exists():
            write_text(self.path / "environment.json", json.dumps(environment, indent=1))

    def _claim(self, config: str) -> None:
        settings, started = self.path / SETTINGS, (self.path / "metrics.jsonl").exists()
        if started and settings.exists() and (there := settings.read_text(encoding="utf-8")) != config:
            raise UserError(
                f"{self.path} holds a run of another config ({_difference(there, config)}); "
                "name another folder, or remove this one"
            )
        empty = not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))
        if not settings.exists() and not empty:
            raise UserError(f"{self.path} exists and is no run folder; name another one")
        if not started:  # nothing was computed yet: a run that failed on its data may be corrected in its place
            write_text(settings, config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process; the system lets go when this one ends, however it ends."""
        if self._holds_lock:
            yield
            return
        with locked(self.path / "lock", busy=f"another process is training in {self.path}"):
            self._holds_lock = True
            try:
                yield
            finally:
                self._holds_lock = False

    # --- metrics -------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl; a line cut short by a kill is no line."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def log(self, kind: str, position: Position, **values: Any) -> None:
        """Append one line."""
        self.append({"kind": kind, **asdict(position), **values})

    def append(self, line: dict[str, Any]) -> None:
        """Append a line that was put together before."""
        append_line(self.path / "metrics.jsonl", json.dumps(line))

    def forget_after(self, position: Position) -> None:
        """Drop what was logged at or after a position that is about to be done again."""
        kept = [m for m in self.metrics if Position(m["stage"], m["attempt"], m["epoch"], m["step"]) < position]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in kept))

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, position: Position, state: State) -> None:
        """Write a checkpoint and drop all but the newest two: a damaged one leaves one to go back to."""
        path = self._checkpoint(position)
        whole = (p for p in reversed(self._checkpoints()) if p != path and base_of(p) is None)
        base = next(whole, None) if self._is_kept(path) else None
        save_state(path, {"position": asdict(position), **state}, base)
        self._drop_all_but(KEPT_CHECKPOINTS)

    def _drop_all_but(self, newest: int) -> None:
        paths = self._checkpoints()
        kept = {path for path in paths if path in paths[-newest:] or self._is_kept(path)}
        kept |= {base for path in kept if (base := base_of(path)) is not None}
        for old in set(paths) - kept:
            old.unlink()

    def _is_kept(self, path: Path) -> bool:
        """Is it the start of a stage that may be gone back to?"""
        stage, *within = map(int, re.findall(r"\d+", path.name))
        return self.kept_from is not None and stage >= self.kept_from and not any(within)

    def has_checkpoint(self, stage: int) -> bool:
        """Is the start of a stage kept?"""
        return self._checkpoint(Position(stage)).exists()

    def forget_stages_after(self, stage: int) -> None:
        """Drop every checkpoint, model and logged line of the stages behind one, which stays as it was at its end."""
        for path in self._checkpoints():
            if path.name > self._checkpoint(Position(stage)).name:
                path.unlink()
        for folder in sorted((self.path / "stages").glob("stage-*")):
            if int(folder.name.removeprefix("stage-")) > stage:
                (folder / "vectors.safetensors").unlink(missing_ok=True)  # first: without it, it is no stage
                shutil.rmtree(folder)
        if any(m["stage"] >= stage for m in self.metrics):
            self.forget_after(Position(stage))

    @property
    def position(self) -> Position | None:
        """Where the newest checkpoint goes on, by its name."""
        paths = self._checkpoints()
        return Position(*map(int, re.findall(r"\d+", paths[-1].stem))) if paths else None

    def newest(self) -> tuple[Position, State] | None:
        """The newest whole checkpoint; a damaged one is passed over, and said."""
        for path in reversed(self._checkpoints()):
            try:
                state = load_state(path)
                return Position(**state["position"]), state
            except UserError as error:
                log.warning("%s; the checkpoint before it is used", error)
                path.rename(path.with_suffix(".damaged"))
        return None

    def newest_values(self) -> State:
        """What the newest checkpoint holds beside tensors; empty where there is none that can be read."""
        for path in reversed(self._checkpoints()):
            with suppress(UserError):
                return load_values(path)
        return {}

    def _checkpoint(self, position: Position) -> Path:
        place = "-".join(f"{key}-{value:0{DIGITS[key]}d}" for key, value in asdict(position).items())
        return self.path / "checkpoints" / f"{place}.safetensors"

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("stage-*.safetensors"))

    def stage_folder(self, stage: int) -> Path:
        """Where the model after task `stage` (0 = before training) lies."""
        return self.path / "stages" / f"stage-{stage:02d}"

    def finish(self, result: dict[str, Any]) -> None:
        """Write the run's figures; a folder with this file is done and needs no checkpoint but the last."""
        write_text(self.path / "result.json", json.dumps(result, indent=1))
        self._drop_all_but(1)

    @property
    def result(self) -> dict[str, Any] | None:
        """The run's figures, or None while it is not done."""
        path = self.path / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _difference(old: str, new: str) -> str:
    """The first line in which two configs differ, for the error message."""
    for before, after in zip(old.splitlines(), new.splitlines(), strict=False):
        if before != after:
            return f"there `{before.strip()}`, here `{after.strip()}`"
    return "one is longer than the other"
