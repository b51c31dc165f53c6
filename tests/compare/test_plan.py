"""A comparison: its plan, the processes it runs in, reuse of finished runs, failures and Ctrl-C."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tripletcl.cli import main
from tripletcl.compare import plan as comparison
from tripletcl.compare.plan import PlannedRun, RunsFailed, compare, method_properties, plan, processes
from tripletcl.compare.processes import Job, run_jobs
from tripletcl.compare.write import named_result
from tripletcl.config import FactConfig, dump_config, parse_config
from tripletcl.continual import RunFolder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.facts import build_facts
from tripletcl.progress import Progress, listening
from tripletcl.runs.stored import FactRun

RUN = """
import os, sys, time
folder, fails = sys.argv[1:]
print("on stdout", flush=True)
print("tripletcl: the loss became nan" if fails == "True" else "on stderr", file=sys.stderr, flush=True)
if fails == "True":
    sys.exit(2)
time.sleep(0.5)
os.rename(f"{folder}/planned.json", f"{folder}/result.json")
"""
"""Replaces `tripletcl train`: prints something, and writes a result after half a second."""


def config_of(**compare: object) -> FactConfig:
    return parse_config({"seed": 10, "data": {"split_seed": 100}, "compare": compare}, "test")


# --- the plan ------------------------------------------------------------------------------------------------------


def test_every_method_on_every_split_with_every_seed(tmp_path: Path) -> None:
    config = config_of(methods=["finetune", "mas"], splits=[0, 2], seeds=[0, 1, 5])
    runs = plan(config, tmp_path)
    assert [run.folder.name for run in runs[:4]] == [
        "finetune-split100-seed10",
        "mas-split100-seed10",
        "finetune-split100-seed11",
        "mas-split100-seed11",
    ]
    planned = {(run.label, run.config.data.split_seed, run.config.seed) for run in runs}
    assert planned == {(m, split, seed) for m in ("finetune", "mas") for split in (100, 102) for seed in (10, 11, 15)}
    assert len({run.folder for run in runs}) == len(runs) == 12
    assert str(runs[-1]) == "mas, split 102, seed 15"
    for run in runs:  # two runs differ in the method, the split and the seed only
        same = run.config.model_copy(update={"seed": 10, "method": runs[0].config.method, "data": runs[0].config.data})
        assert same == runs[0].config
        assert run.config.data.model_copy(update={"split_seed": 100}) == runs[0].config.data


def test_importance_on_each_kind_of_images_for_methods_that_measure_it(tmp_path: Path) -> None:
    runs = plan(config_of(methods=["finetune", "mas"], importance=["train", "test"]), tmp_path)
    assert [(run.label, run.config.data.importance) for run in runs] == [
        ("finetune", "train"),
        ("mas-train", "train"),
        ("mas-test", "test"),
    ]
    assert len({run.folder for run in runs}) == 3


def test_orders_of_objects(tmp_path: Path) -> None:
    sets = [{"root": f"/nowhere/{name}"} for name in ("flowers", "scenes", "letters")]
    pairs = parse_config({"learns": "objects", "data": {"sets": sets}, "compare": {"orders": "pairs"}}, "test")
    runs = plan(pairs, tmp_path)
    assert len(runs) == 6 * 3  # all ordered pairs, three methods
    assert [run.config.data.order for run in runs[:4]] == [["flowers", "scenes"]] * 3 + [["flowers", "letters"]]
    assert str(runs[0]) == "finetune, flowers → scenes, seed 0"
    assert runs[0].folder.name == "finetune-flowers-scenes-seed0"
    assert len({run.folder for run in runs}) == len(runs)
    as_given = plan(parse_config({"learns": "objects", "data": {"sets": sets}}, "test"), tmp_path)
    assert [run.config.data.set_names for run in as_given] == [["flowers", "scenes", "letters"]] * 3


def test_labels_have_settings_if_a_method_occurs_twice() -> None:
    methods = ["mas", {"name": "mas", "lam": 3, "penalty": "gradient"}, ["mas", "lwf"], "joint"]
    properties = method_properties(config_of(methods=methods))
    assert list(properties) == ["mas-lam1.0-proximal", "mas-lam3.0-gradient", "mas+lwf", "joint"]
    assert properties["joint"] is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    column = {"split": "column", "tasks": None, "task_column": "task"}
    with pytest.raises(UserError, match=r"column, which gives one split: compare\.splits cannot ask for \[0, 1\]"):
        parse_config({"data": column, "compare": {"splits": [0, 1]}}, "test")
    assert plan(parse_config({"data": column, "compare": {"seeds": [0, 1]}}, "test"), tmp_path)
    for wrong in ({"seeds": [1, 1]}, {"splits": [0, 0]}, {"seeds": []}, {"jobs": 0}, {"jobs": "all"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            config_of(**wrong)
    with pytest.raises(UserError, match="the same method"):
        plan(config_of(methods=["mas", {"name": "mas", "lam": 1}]), tmp_path)


def test_a_planned_run_is_only_read(tmp_path: Path) -> None:
    (run,) = plan(config_of(methods=["mas"]), tmp_path / "out")
    assert run.result is None
    assert not (tmp_path / "out").exists()


# --- the processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "gpus", "cores", "runs", "expected"),
    [
        ("auto", [], 2, 3, [{"OMP_NUM_THREADS": "1"}] * 2),
        ("auto", [], 16, 3, [{"OMP_NUM_THREADS": "5"}] * 3),
        ("auto", [], 16, 1, [{}]),
        ("auto", [], 16, 0, [{}]),
        ("auto", ["3"], 16, 9, [{}]),
        ("auto", ["3", "GPU-a"], 8, 9, [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": g} for g in ("3", "GPU-a")]),
        (3, ["0", "1"], 2, 9, [{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": g} for g in "010"]),
        (4, [], 2, 9, [{"OMP_NUM_THREADS": "1"}] * 4),
        (1, ["0", "1"], 2, 9, [{}]),
    ],
)
def test_gpus_and_threads_of_each_process(
    monkeypatch: pytest.MonkeyPatch, jobs: object, gpus: list[str], cores: int, runs: int, expected: list[object]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(comparison, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert processes(config_of(jobs=jobs), runs) == expected


def test_runs_on_the_cpu_share_its_cores_up_to_the_allowed_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "visible_gpus", lambda: ["0", "1", "2"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    on_cpu = config_of().model_copy(update={"device": "cpu"})
    assert processes(on_cpu, 4) == [{"OMP_NUM_THREADS": "3"}] * 4


def test_names_of_the_gpus_that_this_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert comparison.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,MIG-7")
    assert comparison.visible_gpus() == ["5", "MIG-7"]
    monkeypatch.setattr(comparison.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert comparison.visible_gpus() == []


# --- running: the processes are real, but only wait and write a result ------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[PlannedRun]:
    """Replace training, with runs of EWC failing; returns the runs that were started."""
    commands: list[PlannedRun] = []

    def command(run: PlannedRun) -> list[str]:
        commands.append(run)
        figures = [[0.1, 0.1], [0.5, 0.1], [0.4, 0.1 + 0.01 * len(run.label)]]
        result = RunResult(
            run.label, run.config.seed, f"random-{run.config.data.split_seed}", ["a", "b"], figures,
            [0.1, 0.2, figures[-1][1]], 1.0, recall={"5": 0.5}, method_bytes=[0, 8, 8], lams=[None, 3.0],
        )  # fmt: skip
        (run.folder / "planned.json").write_text(json.dumps(result.to_dict()))
        return [sys.executable, "-c", RUN, str(run.folder), str(run.label == "ewc")]

    monkeypatch.setattr(comparison, "_command", command)
    return commands


@pytest.mark.parametrize("of_a_run", [True, False])
def test_a_folder_called_like_the_package_is_not_taken_for_it(tmp_path: Path, of_a_run: bool) -> None:
    """From the parent folder of a clone of the project, its `runs/` would be the package `tripletcl.runs`."""
    (tmp_path / "tripletcl" / "runs").mkdir(parents=True)
    (run, *_) = plan(config_of(methods=["mas"]), tmp_path / "out")
    command = comparison._command(run) if of_a_run else [sys.executable, "-m", "tripletcl", "train", "missing.yaml"]
    pipe = subprocess.PIPE  # a run ends when its standard input is closed
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as ended:
        assert ended.stderr is not None
        assert ended.stderr.read().startswith("tripletcl: no config file")
        assert ended.wait() == 2


def test_parallel_runs_print_into_their_folders(
    tmp_path: Path, quick: list[PlannedRun], capfd: pytest.CaptureFixture[str]
) -> None:
    config, lines = config_of(methods=["finetune", "mas", "frozen", "joint"], jobs=4), []
    results = compare(config, tmp_path, lines.append)
    assert [result.method for result in results] == ["finetune", "mas", "frozen", "joint"]
    assert lines[:4] == [f"{i + 1}/4 {run}: started" for i, run in enumerate(quick)]
    assert sorted(line.partition(":")[0] for line in lines[4:]) == [f"{i + 1}/4 {run}" for i, run in enumerate(quick)]
    assert all(line.endswith(" s, MAP .130") for line in lines if line.startswith("2/4") and "started" not in line)
    assert (tmp_path / "mas-split100-seed10" / "train.log").read_text().splitlines() == ["on stdout", "on stderr"]
    assert capfd.readouterr() == ("", "")
    rows = json.loads((tmp_path / "compare.json").read_text())
    assert [row["method_bytes"] for row in rows] == [[0, 8, 8]] * 4
    assert {row["split"] for row in rows} == {"random-100"}
    assert rows[1]["lams"] == [None, 3.0]
    assert {"map_open", "map_subset"} <= rows[1].keys()
    assert rows[0]["gap_closed"] is None  # joint is no better here
    assert compare(config, tmp_path, lines.append) == results  # and nothing is started again
    assert len(quick) == 4
    assert lines[-1] == "4 of 4 runs are finished already"


def test_a_single_run_at_a_time_prints_to_the_terminal(
    tmp_path: Path, quick: list[PlannedRun], capfd: pytest.CaptureFixture[str]
) -> None:
    compare(config_of(methods=["finetune", "mas"], jobs=1), tmp_path)
    out, err = capfd.readouterr()
    assert (out, err) == ("on stdout\n" * 2, "on stderr\n" * 2)
    assert not (tmp_path / "mas-split100-seed10" / "train.log").exists()


def test_a_failed_run_is_named_and_does_not_stop_the_others(tmp_path: Path, quick: list[PlannedRun]) -> None:
    config = config_of(methods=["ewc", "finetune", "mas"], seeds=[0, 1], jobs=2)
    with pytest.raises(RunsFailed) as caught:
        compare(config, tmp_path)
    assert caught.value.reasons == {f"ewc, split 100, seed {seed}": "the loss became nan" for seed in (10, 11)}
    logs = [tmp_path / f"ewc-split100-seed{seed}" / "train.log" for seed in (10, 11)]
    assert str(caught.value) == (
        f"2 of 6 runs failed: ewc, split 100, seed 10 ({logs[0]}); ewc, split 100, seed 11 ({logs[1]}); "
        "the first says: the loss became nan"
    )
    assert len(list(tmp_path.glob("*/result.json"))) == 4
    with pytest.raises(UserError, match=r"1 of 1 runs failed: ewc, split 100, seed 10 \(see above\)$"):
        compare(config_of(methods=["ewc"], jobs=1), tmp_path)


def test_the_gap_is_closed_among_runs_of_the_same_split_and_seed(tmp_path: Path, quick: list[PlannedRun]) -> None:
    results = compare(config_of(methods=["finetune", "mas", "joint"], splits=[0, 1], jobs=6), tmp_path)
    height = {"finetune": 0.1, "mas": 0.2, "joint": 0.5}
    results = [replace(r, overall=[0, 0, height[r.method] + 0.1 * (r.split == "random-101")]) for r in results]
    gaps = [row["gap_closed"] for row in comparison.comparison_objects(results)]
    assert gaps == pytest.approx([0, 0.25, 1] * 2)


def test_at_most_as_many_jobs_run_as_there_are_places(tmp_path: Path) -> None:
    """Each job prints when it began and ended, and its place."""
    code = "import os, sys, time; a = time.time(); time.sleep(0.2); print(os.environ['PLACE'], a, time.time())"
    jobs = [Job([sys.executable, "-c", code], tmp_path / str(index)) for index in range(5)]
    run_jobs(jobs, [{"PLACE": "a"}, {"PLACE": "b"}])
    notes = [(tmp_path / str(index)).read_text().split() for index in range(5)]
    spans = [(place, float(began), float(ended)) for place, began, ended in notes]
    for at in (began for _, began, _ in spans):
        busy = [place for place, began, ended in spans if began <= at < ended]
        assert len(busy) == len(set(busy)) <= 2
    assert {place for place, *_ in spans} == {"a", "b"}


def pids(folder: Path, count: int) -> list[int]:
    """Wait until processes have written their ids into files of a folder."""
    deadline = time.monotonic() + 30
    while len([file for file in folder.iterdir() if file.read_text()]) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    found = [int(file.read_text()) for file in folder.iterdir()]
    assert len(found) == count
    return found


def is_running(process: int) -> bool:
    """True unless a process has ended; a zombie, which nobody has waited for, has."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "\nState:\tZ" in status.read_text())


PARENT = """
import signal, sys
from tripletcl.compare import processes
from tripletcl.progress import Progress, listening
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with Ctrl-C ignored
processes.PATIENCE_SECONDS = float(sys.argv[2])
code = "import os, sys, time, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + sys.argv[3]
code += "; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
jobs = [processes.Job([sys.executable, "-c", code, f"{sys.argv[1]}/{index}"]) for index in range(3)]
processes.run_jobs(jobs, [{}, {}])
"""


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_comparison_stops_its_runs(tmp_path: Path, number: signal.Signals, deaf: bool) -> None:
    """Also those that did not get the Ctrl-C, and those that ignore SIGTERM."""
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if deaf else "pass"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), "0.3", ignore], stderr=subprocess.PIPE)
    children = pids(tmp_path, 2)
    parent.send_signal(number)
    parent.communicate(timeout=30)
    assert parent.returncode == (-signal.SIGINT if number == signal.SIGINT else 128 + signal.SIGTERM)
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert len(list(tmp_path.iterdir())) == 2  # the third was not started


def test_a_killed_comparison_leaves_no_run_behind(tmp_path: Path) -> None:
    """Also a run that starts while its parent dies, and one that does not get to Python code any more."""
    code = "import os, sys, time; from tripletcl.compare.child import end_with_parent; {}; "
    code += "open(sys.argv[1], 'w').write(str(os.getpid())); {}; time.sleep(60)"
    late = code.format("pass", "time.sleep(1); end_with_parent()")  # after the parent has died
    early = code.format("end_with_parent()", "pass")
    jobs = [[sys.executable, "-c", each, str(tmp_path / str(number))] for number, each in enumerate((early, late))]
    parent = "from tripletcl.compare.processes import Job, run_jobs\n"
    parent += f"run_jobs([Job(command) for command in {jobs}], [{{}}, {{}}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    children = pids(tmp_path, 2)
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 30
    while any(is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_running(child) for child in children)


def test_a_run_of_a_comparison_is_a_command_that_ends_with_it(tmp_path: Path) -> None:
    run = PlannedRun("mas", config_of(), tmp_path)
    command = [*comparison._command(run)[:-1], "--help"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Train" in process.stdout.read()
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, capture_output=True)  # no parent any more
    assert ended.returncode == -signal.SIGKILL


def test_a_stopped_command_says_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "run_jobs", stop)
    monkeypatch.setattr(sys, "argv", ["tripletcl", "compare", "demo", "--out", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 130
    assert capsys.readouterr().err == "tripletcl: stopped; the same command resumes from the last checkpoint\n"


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("mas-lam3.0-split0-seed0", "mas-lam3.0"),
        ("mas-local-split-1-seed12", "mas-local"),
        ("mas-split0-seed0", "mas"),
        ("mas-by-hand", "mas-by-hand"),
        ("another", "mas"),
    ],
)
def test_a_run_is_labelled_by_the_name_of_its_folder(tmp_path: Path, folder: str, label: str) -> None:
    run = PlannedRun("mas", config_of(), tmp_path / folder)
    result = RunResult("mas", 0, "random-0", ["a"], [[0.1], [0.2]], [0.1, 0.2], 1.0)
    RunFolder(run.folder, dump_config(run.config)).finish(result.to_dict())
    named = named_result(FactRun.open(run.folder))
    assert named is not None
    assert named.method == label


# --- caches of parallel runs ----------------------------------------------------------------------------------------

SMALL = {
    "device": "cpu",
    "data": {"cache_features": True, "tasks": 2, "scenes": {"facts": 12, "train": 2, "test": 1}},
    "model": {"image_size": 32, "backbone": "timm/resnet10t", "weights": "none", "freeze_until": "layer1"},
}


def build_in_parallel(folder: Path, barrier: Barrier, log: Path) -> None:
    """Build an experiment in a process of its own, and write what it computed itself."""
    os.environ["TRIPLETCL_CACHE"] = str(folder)
    barrier.wait(600)
    counts: dict[str, int] = {}

    def note(progress: Progress) -> None:
        time.sleep(0.005)  # so that the other process finds it unfinished
        counts[progress.label] = progress.done

    with listening(note):
        build_facts(parse_config(SMALL, "test"))
    log.write_text(json.dumps(counts))


def test_two_processes_compute_nothing_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, logs = context.Barrier(2), [tmp_path / "one.json", tmp_path / "two.json"]
    pair = [context.Process(target=build_in_parallel, args=(tmp_path / "cache", barrier, log)) for log in logs]
    for process in pair:
        process.start()
    for process in pair:
        process.join(600)  # a bound for a hang, not for a slow machine
    assert [process.exitcode for process in pair] == [0, 0]
    computed = [json.loads(log.read_text()) for log in logs]
    assert sorted([*computed[0], *computed[1]]) == ["decoding images", "drawing scenes", "frozen features"]
    assert {*computed[0].values(), *computed[1].values()} == {36}
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {
        "",
        ".json",
        ".npy",
        ".safetensors",
    }  # no lock is left
