"""A run folder: settings, metrics written as they happen, checkpoints that survive a kill at any moment.

RUN/config.yaml           the resolved settings; a folder with other settings is refused
RUN/environment.json      versions and machine
RUN/metrics.jsonl         one line per logged step ("train"), finished stage ("stage"), tried lam ("attempt"), and
                          whatever else is appended
RUN/checkpoints/          one safetensors file per checkpoint
RUN/stages/stage-02/      the model after task 2, written by the caller
RUN/result.json           the figures, once all tasks are learned
RUN/lock                  exists while a process writes to the folder

`tripletcl.runs.layout` names what the runs of the application store in addition.
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

from tripletcl import group
from tripletcl.continual.checkpoint import State, base_of, load_state, load_values, save_state
from tripletcl.errors import UserError
from tripletcl.files import (
    append_line,
    is_draft,
    locked,
    read_json,
    reading,
    remove_drafts,
    signed,
    verified,
    write_json,
    write_text,
)
from tripletcl.files.documents import ENVIRONMENT, METRICS, RESTORE, RESULT, SETTINGS
from tripletcl.files.places import stage_folder, stage_folders, stage_number

log = logging.getLogger("tripletcl")

LOCK = "lock"
CHECKPOINTS = "checkpoints"
"""Files and folders of a run folder."""

RESULT_REMEDY = f"{RESTORE}, or delete it and repeat the command that trained the run, which collects the figures again"
CHECKPOINTS_KEPT = 2

DIGITS = {"stage": 3, "attempt": 3, "epoch": 5, "step": 7}
"""Digits of a position's numbers in a checkpoint's name, filled with zeros."""


@dataclass(frozen=True, order=True)
class Position:
    """The next thing to do: batch `step` of epoch `epoch` of task `stage` (all from 0).

    A task is learned in several attempts while a method's weight is chosen, otherwise in attempt 0 only.
    """

    stage: int = 0
    attempt: int = 0
    epoch: int = 0
    step: int = 0


class RunFolder:
    """Opens a run folder, or creates it; `locked` keeps other processes out.

    Of several processes that train together (`tripletcl.group`) only the first locks it and writes to it.

    Args:
        path: The folder.
        config: Its settings, as text; without them an existing folder is opened, and nothing is written.
        environment: Versions and machine, stored with a new run.
        kept_from: Checkpoints at the start of this stage and of every later one are kept, so that what was learned
            after them can be undone; the later ones refer to the first for tensors that are the same. With None only
            the latest two are kept.
        last_file: The file of a stage's folder that is written last: a stage without it does not exist.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """

    def __init__(
        self,
        path: Path,
        config: str | None = None,
        environment: dict[str, Any] | None = None,
        *,
        kept_from: int | None = None,
        last_file: str | None = None,
    ) -> None:
        self.path, self.kept_from, self.last_file = Path(path), kept_from, last_file
        self._holds_lock = False
        if config is not None:
            self._claim(config)
        if environment is not None and not (self.path / ENVIRONMENT).exists():
            write_json(self.path / ENVIRONMENT, environment)

    def _claim(self, config: str) -> None:
        """Check the folder's settings, and write them where nothing was computed with others.

        They are written under the lock: another process may be preparing its data with those that are stored.
        """
        settings = self.path / SETTINGS
        if settings.exists() and settings.read_text(encoding="utf-8") == config:
            return
        if not settings.exists() and self._holds_something_else():
            raise UserError(f"{self.path} exists and is no run folder; name another one")
        with self.locked():
            if settings.exists() and (self.path / METRICS).exists():
                raise UserError(
                    f"{self.path} holds a run of another config "
                    f"({_difference(settings.read_text(encoding='utf-8'), config)}); "
                    "name another folder, or remove this one"
                )
            write_text(settings, config)  # the settings of a run that failed on its data may be corrected

    def _holds_something_else(self) -> bool:
        """Tell whether the path is a file, or has files that no process left that was killed before the settings."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(path.name != LOCK and not is_draft(path) for path in self.path.iterdir())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes; the system releases it when this one ends, however it ends."""
        if self._holds_lock or group.rank():
            yield
            return
        with locked(self.path / LOCK, busy=f"another process is training in {self.path}"):
            self._holds_lock = True
            for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir())):
                remove_drafts(folder)
            try:
                yield
            finally:
                self._holds_lock = False

    def check_exists(self) -> None:
        """Check that the folder was not removed while this process holds it: what writes a file would create it anew.

        Raises:
            UserError: it was removed.
        """
        if self._holds_lock and not (self.path / LOCK).exists():
            raise UserError(f"{self.path} was removed while this command was writing to it")

    # --- metrics -------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl; a last line cut short by a kill does not count.

        Raises:
            UserError: a line is damaged.
        """
        path = self.path / METRICS
        with reading(path):
            *lines, _fragment = path.read_bytes().split(b"\n") if path.exists() else [b""]
        return [_parse_metrics(line, number, path) for number, line in enumerate(lines, 1)]

    def log(self, kind: str, position: Position, **values: Any) -> None:
        """Append one line."""
        self.append({"kind": kind, **asdict(position), **values})

    def append(self, line: dict[str, Any]) -> None:
        """Append a complete line."""
        if group.rank():
            return
        self.check_exists()
        append_line(self.path / METRICS, json.dumps(signed(line)))

    def drop_metrics_from(self, position: Position) -> None:
        """Drop what was logged at or after a position that is about to be repeated."""
        if group.rank():
            return
        kept = [m for m in self.metrics if Position(m["stage"], m["attempt"], m["epoch"], m["step"]) < position]
        write_text(self.path / METRICS, "".join(json.dumps(signed(m)) + "\n" for m in kept))

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, position: Position, state: State) -> None:
        """Write a checkpoint and drop all but the latest two: if one is damaged, the other is left."""
        if group.rank():
            return
        self.check_exists()
        path = self._checkpoint(position)
        whole = (p for p in reversed(self._checkpoints()) if p != path and base_of(p) is None)
        base = next(whole, None) if self._is_kept(path) else None
        save_state(path, {"position": asdict(position), **state}, base)
        self._drop_checkpoints(CHECKPOINTS_KEPT)

    def _drop_checkpoints(self, kept: int) -> None:
        """Drop all but the latest `kept` checkpoints, those of stages that can be undone, and their bases."""
        paths = self._checkpoints()
        staying = {path for path in paths if path in paths[-kept:] or self._is_kept(path)}
        staying |= {base for path in staying if (base := base_of(path)) is not None}
        for path in set(paths) - staying:
            path.unlink()

    def _is_kept(self, path: Path) -> bool:
        """True for the start of a stage that can be undone."""
        position = _position(path)
        return self.kept_from is not None and position.stage >= self.kept_from and position == Position(position.stage)

    def has_checkpoint(self, stage: int) -> bool:
        """True if the start of a stage is stored."""
        return self._checkpoint(Position(stage)).exists()

    def drop_stages_after(self, stage: int) -> None:
        """Drop every checkpoint, model and logged line after a stage, which stays as it was at its end."""
        for path in self._checkpoints():
            if _position(path) > Position(stage):
                path.unlink()
        for folder in stage_folders(self.path):
            if stage_number(folder) > stage:
                if self.last_file is not None:  # first: without it the stage no longer exists
                    (folder / self.last_file).unlink(missing_ok=True)
                shutil.rmtree(folder)
        if any(m["stage"] >= stage for m in self.metrics):
            self.drop_metrics_from(Position(stage))

    @property
    def position(self) -> Position | None:
        """The position at which the latest checkpoint resumes, by its name."""
        paths = self._checkpoints()
        return _position(paths[-1]) if paths else None

    def latest(self) -> tuple[Position, State] | None:
        """Read the latest intact checkpoint; a damaged one is skipped with a warning."""
        for path in reversed(self._checkpoints()):
            try:
                state = load_state(path)
                with reading(path):
                    return Position(**state["position"]), state
            except UserError as error:
                log.warning("%s; the checkpoint before it is used", error)
                path.rename(path.with_suffix(".damaged"))
        return None

    def latest_values(self) -> State:
        """Read what the latest checkpoint holds in addition to tensors; empty without a readable checkpoint."""
        for path in reversed(self._checkpoints()):
            with suppress(UserError):
                return load_values(path)
        return {}

    def checkpoint_file(self, position: Position) -> str:
        """Name the file of the checkpoint at a position, within the run's folder."""
        place = "-".join(f"{key}-{value:0{DIGITS[key]}d}" for key, value in asdict(position).items())
        return f"{CHECKPOINTS}/{place}.safetensors"

    def _checkpoint(self, position: Position) -> Path:
        return self.path / self.checkpoint_file(position)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / CHECKPOINTS).glob("stage-*.safetensors"), key=_position)

    # --- stages and figures --------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[int]:
        """The stages whose model is stored, in order; 0 is the model before training."""
        folders = stage_folders(self.path)
        return [stage_number(f) for f in folders if self.last_file is None or (f / self.last_file).exists()]

    def stage_folder(self, stage: int) -> Path:
        """Return the folder of the model after task `stage` (0 = before training)."""
        return stage_folder(self.path, stage)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the run's figures; a folder with this file is finished and needs its last checkpoint only."""
        self.check_exists()
        self._drop_checkpoints(1)  # first: nothing is done to a run with figures
        write_json(self.path / RESULT, result)

    @property
    def result(self) -> dict[str, Any] | None:
        """The run's figures, or None while it is not finished."""
        path = self.path / RESULT
        return read_json(path, RESULT_REMEDY) if path.exists() else None


def _parse_metrics(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """Parse a line of metrics.jsonl.

    Raises:
        UserError: it is damaged.
    """
    with suppress(ValueError):
        values = verified(json.loads(line))
        if values.keys() >= {"kind", *DIGITS}:
            return values
    raise UserError(f"line {number} of {path} is damaged: restore the file from a copy, or delete that line")


def _position(checkpoint: Path) -> Position:
    """Read a checkpoint's position from its name."""
    return Position(*map(int, re.findall(r"\d+", checkpoint.stem)))


def _difference(old: str, new: str) -> str:
    """Describe the first line in which two configs differ."""
    for before, after in zip(old.splitlines(), new.splitlines(), strict=False):
        if before != after:
            return f"there `{before.strip()}`, here `{after.strip()}`"
    return "one is longer than the other"
