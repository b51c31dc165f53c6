"""A run folder: settings, metrics written as they happen, checkpoints that survive a kill at any moment.

RUN/config.yaml           the resolved settings; a folder of other settings is refused
RUN/environment.json      versions and machine
RUN/metrics.jsonl         one line a logged step ("train"), a finished stage ("stage"), a tried lam ("attempt")
RUN/checkpoints/*.safetensors
RUN/stages/stage-02/      the model after task 2 (`FactEmbedder.from_pretrained`)
RUN/result.json           the figures, when all is done
"""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tripletcl.continual.checkpoint import State, load_state, save_state
from tripletcl.errors import UserError
from tripletcl.files import append_line, locked, write_text

log = logging.getLogger("tripletcl")

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
    """Opens or makes a run folder and keeps others out while it is open (use as a context manager)."""

    def __init__(self, path: Path, config: str, environment: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._claim(config)
        if environment is not None and not (self.path / "environment.json").exists():
            write_text(self.path / "environment.json", json.dumps(environment, indent=1))

    def _claim(self, config: str) -> None:
        settings, started = self.path / "config.yaml", (self.path / "metrics.jsonl").exists()
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

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder against a second process; the system lets go when this one ends, however it ends."""
        return locked(self.path / "lock", busy=f"another process is training in {self.path}")

    # --- metrics -------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl; a line cut short by a kill is no line."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def log(self, kind: str, position: Position, **values: Any) -> None:
        """Append one line."""
        append_line(self.path / "metrics.jsonl", json.dumps({"kind": kind, **asdict(position), **values}))

    def forget_after(self, position: Position) -> None:
        """Drop what was logged at or after a position that is about to be done again."""
        kept = [m for m in self.metrics if Position(m["stage"], m["attempt"], m["epoch"], m["step"]) < position]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in kept))

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, position: Position, state: State) -> None:
        """Write a checkpoint and drop all but the newest two: a damaged one leaves one to go back to."""
        save_state(self._checkpoint(position), {"position": asdict(position), **state})
        for old in self._checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()

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
        for old in self._checkpoints()[:-1]:
            old.unlink()

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
