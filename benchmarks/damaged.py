"""Damages every file of a run, an index and a comparison, and checks that commands refuse it or answer as before.

$ python benchmarks/damaged.py [--mutations 1000] [--only PATTERN]

Each mutation empties one file, cuts it, changes a byte or several, or zeroes a block, and runs one of the commands that
read the file, in a process of its own on a fresh copy. The command must refuse it in one sentence, or do exactly what
it does without the damage: because it does not need the file, or computes its content again.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import itertools
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tripletcl as packages
from tripletcl.cli import main as tripletcl
from tripletcl.compare.plan import plan
from tripletcl.config import load_config
from tripletcl.embedding.backbones import build_backbone
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train
from tripletcl.scenes import write_scenes

SETTINGS = """
data: {table: PLACE/scenes/facts.csv, tasks: 2, cache_features: true}
model: {backbone: timm/test_efficientnet, weights: none, freeze_until: blocks0, text: PLACE/words.txt, width: 16,
        image_size: 32}
loss: {name: wildcard_cosine}
training: {epochs: 1, batch_size: 8, lr: 0.02, checkpoint_minutes: 0}
device: cpu
"""
ANALYTIC = "{name: analytic, features: 64}"
MAS = "{name: mas, lam: 3}"

COMMANDS = {
    "query": "query run bear juggling --like more/new-0.jpg --json",
    "describe": "describe run more/new-0.jpg --json",
    "tasks": "tasks run --json",
    "evaluate": "evaluate run --json",
    "unseen": "evaluate run --unseen --stage 1 --json",
    "report": "report run --out page.html",
    "continue": "train --continue run more.csv",
    "teach": "teach run bear,hiding more/new-0.jpg more/new-1.jpg more/new-2.jpg",
    "undo": "teach run --undo",
    "index": "index run more --json",
    "info": "index info run --json",
    "upgrade": "index upgrade run --stage 2 --json",
    "resume": "train mas.yaml --out unfinished --quiet",
    "compare": "compare compare.yaml --out compared --json",
    "report of a comparison": "report compared --out page.html",
}
CHANGES = {"continue": "run", "teach": "run", "undo": "run", "index": "run", "upgrade": "run", "resume": "unfinished"}
"""Commands that are judged by what they leave in a folder, and not by what they print."""

READERS = {
    "run/config.yaml": ["query", "tasks", "evaluate", "report", "teach", "undo"],
    "run/environment.json": ["report", "teach"],
    "run/metrics.jsonl": ["tasks", "teach", "continue", "undo"],
    "run/tasks.json": ["tasks", "report", "teach", "undo"],
    "run/result.json": ["tasks", "evaluate", "report", "teach", "undo"],
    "run/checkpoints/*": ["teach", "continue", "undo"],
    "run/stages/*/embedder.json": ["query", "describe", "tasks", "teach", "undo", "upgrade"],
    "run/stages/*/model.safetensors": ["query", "describe", "evaluate", "undo", "upgrade"],
    "run/stages/*/vectors.safetensors": ["query", "describe", "report", "unseen", "undo"],
    "run/stages/*/calibration.json": ["query", "describe"],
    "run/tables/*": ["tasks", "evaluate", "unseen", "report", "teach", "continue", "undo"],
    "run/kept/*": ["query", "evaluate", "teach", "undo"],
    "run/index/*": ["query", "info", "index", "upgrade", "teach"],
    "unfinished/*": ["resume"],
    "compared/*/*": ["compare", "report of a comparison"],
    "compared/*": ["compare"],
}
"""Commands that read a file, by its name; the first pattern counts."""

PLAIN = ("*/config.yaml",)
"""Files that users write: another setting is another setting."""

SECONDS = 120
"""Longest duration of a command."""


# --- the folders -----------------------------------------------------------------------------------------------------


def prepare(place: Path) -> None:
    """Make a run with a lesson and an index, one that was interrupted, and a comparison, in a few seconds."""
    table = write_scenes(place / "scenes", facts=12, train=5, test=3, size=32)
    draw_more(place)
    units = table.read_text().replace("\n", ",").split(",")
    words = sorted({word for unit in units for word in unit.split() if word.isalpha()} | {"bear", "juggling", "hiding"})
    vectors = np.random.default_rng(0).normal(size=(len(words), 16)).round(4)
    rows = [" ".join([word, *map(str, vector)]) for word, vector in zip(words, vectors, strict=True)]
    (place / "words.txt").write_text("\n".join(rows) + "\n")
    settings = SETTINGS.replace("PLACE", str(place))
    (place / "run.yaml").write_text(f"{settings}method: {ANALYTIC}\n")
    (place / "mas.yaml").write_text(f"{settings}method: {MAS}\n")
    (place / "compare.yaml").write_text(f"{settings}compare: {{methods: [finetune, {MAS}], seeds: [0]}}\n")
    for words in (
        "train run.yaml --out run --quiet",
        "teach run bear,juggling more/old-0.jpg more/old-1.jpg more/old-2.jpg more/old-3.jpg more/old-4.jpg",
        "index run scenes/images --kind hnsw --json",
        COMMANDS["query"],  # fits the calibration
    ):
        run_command(words)
    with suppress(KeyboardInterrupt), listening(interrupt):
        train(load_config(str(place / "mas.yaml")), place / "unfinished")
    for run in plan(load_config(str(place / "compare.yaml")), place / "compared"):
        train(run.config, run.folder)
    run_command("compare compare.yaml --out compared --json")


def draw_more(place: Path) -> None:
    """Draw photos to be taught, to be indexed and to be learned from a table."""
    images = sorted(write_scenes(place / "drawn", facts=12, train=1, test=1, size=32, seed=7).parent.glob("images/*"))
    (place / "more").mkdir()
    for number, image in enumerate(images[:10]):
        shutil.copy(image, place / "more" / f"{('old', 'new')[number // 5]}-{number % 5}.jpg")
    rows = [f"more/new-{i}.jpg,bear,hiding,,{'test' if i == 4 else 'train'}" for i in range(5)]
    (place / "more.csv").write_text("\n".join(["image,subject,predicate,object,split", *rows]) + "\n")


def interrupt(progress: Progress) -> None:
    """Stop training in the middle of the second task."""
    if progress.label == "task 2" and progress.done > 1:
        raise KeyboardInterrupt


# --- commands --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """The end of a command.

    Attributes:
        code: Its exit code.
        trace: A traceback, or the reason why it ended in another way than it should.
        values: Its result by part; None for a part that cannot be read.
    """

    code: int
    trace: str = ""
    message: str = ""
    values: dict[str, Any] | None = None


def run_command(words: str) -> tuple[str, str]:
    """Run a command in this process; returns what it printed to each stream."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["tripletcl", *words.split()]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            tripletcl()
        except SystemExit as end:
            if end.code:
                raise UserError(err.getvalue()) from end
    return out.getvalue(), err.getvalue()


def outcome_of(name: str, place: Path) -> Outcome:
    """Run a command in a forked child."""
    report = place.parent / "outcome.json"
    report.unlink(missing_ok=True)
    status = in_child(lambda: report.write_text(json.dumps(vars(ended(name, place)))))
    return Outcome(**json.loads(report.read_text())) if report.exists() else Outcome(status, f"ended with {status}")


def import_everything() -> None:
    """Import what commands import late, once, and not in every child."""
    build_backbone("timm/test_efficientnet", "none")
    for module in pkgutil.walk_packages(packages.__path__, "tripletcl."):
        if not module.name.startswith(("tripletcl.web", "tripletcl.__main__")):
            importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "rich.table", "rich.progress", "sklearn.isotonic", "sklearn.linear_model"):
        importlib.import_module(name)
    gc.freeze()


def in_child(work: Callable[[], object]) -> int:
    """Work in a forked child: a crash, a hang, or what a command changes in its process, ends there."""
    if not (child := os.fork()):
        signal.alarm(SECONDS)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended(name: str, place: Path) -> Outcome:
    """Run a command and read what it has left."""
    try:
        out, err = run_command(COMMANDS[name])
    except UserError as error:
        *_, message = str(error).strip().splitlines() or [""]
        wrong = "Traceback" in str(error) or not message.startswith("tripletcl: ")
        return Outcome(2, str(error) if wrong else "", message)
    except BaseException:
        return Outcome(1, traceback.format_exc())
    values = state_of(place / CHANGES[name]) if name in CHANGES else {"printed": out}
    if "page.html" in COMMANDS[name]:
        values = {"page": (place / "page.html").read_text()}
    return Outcome(0, err if "Traceback" in err else "", values=json.loads(json.dumps(values)))


def state_of(folder: Path) -> dict[str, Any]:
    """Read the figures, the latest model and the index of a run; a part that is damaged is None."""
    run = FactRun.open(folder)
    parts: dict[str, Callable[[], Any]] = {
        "result": lambda: {**(run.folder.result or {}), "seconds": 0},
        "model": run.fingerprint,
        "index": lambda: photos_of(FactIndex.load(run.index)) if run.index.exists() else {},
    }
    values: dict[str, Any] = {}
    for name, read in parts.items():
        values[name] = None
        with suppress(UserError):
            values[name] = read()
    return values


def photos_of(index: FactIndex) -> dict[str, Any]:
    """The model of an index, and the first numbers of each photo's vector."""
    rows = {str(path): index.rows([row])[0, :4] for row, path in enumerate(index.paths) if not index.deleted[row]}
    return {"model": index.model, **{path: np.round(vector.astype(float), 3).tolist() for path, vector in rows.items()}}


# --- damage ----------------------------------------------------------------------------------------------------------


def empty(raw: bytearray, rng: random.Random) -> None:
    raw.clear()


def cut(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(1, len(raw)) :]


def flip(raw: bytearray, rng: random.Random) -> None:
    raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)


def scatter(raw: bytearray, rng: random.Random) -> None:
    for _ in range(8):
        flip(raw, rng)


def zero(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw))
    raw[start : start + 512] = bytes(len(raw[start : start + 512]))


Damage = Callable[[bytearray, random.Random], None]
DAMAGES: tuple[Damage, ...] = (empty, cut, flip, scatter, zero, flip, cut, flip, scatter, flip)


def mutations(base: Path, count: int, only: str) -> Iterator[tuple[str, Damage, int]]:
    """Yield a file, a damage and a number: every file in turn, with one damage after another."""
    folders = ("run", "unfinished", "compared")
    files = [str(path.relative_to(base)) for folder in folders for path in sorted((base / folder).rglob("*"))]
    files = [file for file in files if (base / file).stat().st_size and (base / file).is_file() and fnmatch(file, only)]
    turns = ((file, DAMAGES[turn % len(DAMAGES)], turn) for turn in itertools.count() for file in files)
    return itertools.islice(turns, count if files else 0)


def readers_of(file: str) -> list[str]:
    """The commands that read a file."""
    return next(readers for pattern, readers in READERS.items() if fnmatch(file, pattern))


class Campaign:
    """Damages files in a copy of a folder and counts what commands make of it."""

    def __init__(self, base: Path, place: Path, verbose: bool, used: set[str]) -> None:
        self.base, self.place, self.verbose = base, place, verbose
        self.references = {name: self._reference(name) for name in COMMANDS if name in used}

    def _restore(self, folders: tuple[str, ...] = ("run", "unfinished", "compared")) -> None:
        for folder in folders:
            shutil.rmtree(self.place / folder, ignore_errors=True)
            shutil.copytree(self.base / folder, self.place / folder)

    def _reference(self, name: str) -> dict[str, Any]:
        """The result without damage."""
        self._restore()
        outcome = outcome_of(name, self.place)
        assert outcome.values, f"{name}: {outcome}"
        return outcome.values

    def judge(self, file: str, damage: Damage, turn: int) -> str:
        """Damage a file and run one of its readers; returns the outcome."""
        rng = random.Random(f"{file} {turn}")
        raw = whole = (self.base / file).read_bytes()
        while raw == whole:
            changed = bytearray(whole)
            damage(changed, rng)
            raw = bytes(changed)
            damage = flip if damage is zero else damage  # the block was zero
        readers = readers_of(file)
        name = readers[(turn + zlib.crc32(file.encode())) % len(readers)]
        self._restore((Path(file).parts[0],))
        (self.place / file).write_bytes(raw)
        outcome = outcome_of(name, self.place)
        different = {key: value for key, value in (outcome.values or {}).items() if value != self.references[name][key]}
        kind = self._kind_of(outcome, different, any(fnmatch(file, pattern) for pattern in PLAIN))
        if kind in ("traces", "believed") or self.verbose:
            reason = outcome.message or outcome.trace[-1500:] or different
            print(f"{kind}: {file}, turn {turn}, {COMMANDS[name]}: {reason}", file=sys.stderr, flush=True)
        return kind

    def _kind_of(self, outcome: Outcome, different: dict[str, Any], plain: bool) -> str:
        if outcome.trace or outcome.code not in (0, 2):
            return "traces"
        if outcome.code == 2:
            return "refused"
        believed = any(value is not None for value in different.values()) and not plain
        return "believed" if believed else "rebuilt or not needed"


def group_of(file: str) -> str:
    """The name under which a file is counted."""
    name = re.sub(r"stage-\d+(-attempt\S+)?", "*", file)
    name = re.sub(r"(further|vectors|features|structure)-\d+", r"\1-*", name)
    return re.sub(r"compared/[^/]+/", "compared/*/", name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--only", default="*", help="files to damage, such as 'run/index/*'")
    parser.add_argument("--turns", type=int, nargs="*", help="only these turns, to repeat what was found")
    parser.add_argument("--verbose", action="store_true", help="print every outcome")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import_everything()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIPLETCL_CACHE"] = f"{folder}/cache"
        base, place = Path(folder) / "base", Path(folder) / "place"
        place.mkdir()
        os.chdir(place)
        assert in_child(lambda: prepare(place)) == 0, "the folders cannot be prepared"
        shutil.copytree(place, base)
        files = {file for file, _, _ in mutations(base, arguments.mutations, arguments.only)}
        campaign = Campaign(base, place, arguments.verbose, {name for file in files for name in readers_of(file)})
        for file, damage, turn in mutations(base, arguments.mutations, arguments.only):
            if arguments.turns and turn not in arguments.turns:
                continue
            counts.setdefault(group_of(file), Counter())[campaign.judge(file, damage, turn)] += 1
        os.chdir(folder)
    columns = ("refused", "rebuilt or not needed", "traces", "believed")
    print(f"| file | mutations | {' | '.join(columns)} |\n| --- | {'---: | ' * 5}".rstrip())
    counts["all"] = sum(counts.values(), Counter())
    for name, count in counts.items():
        print(f"| {name} | {count.total()} | {' | '.join(str(count[column]) for column in columns)} |")
    sys.exit(bool(counts["all"]["traces"] + counts["all"]["believed"]))


if __name__ == "__main__":
    main()
