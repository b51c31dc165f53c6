"""Comparisons on other machines: a one-node SLURM and a Ray that the tests start, and what both have in common."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tripletcl.compare import plan as comparison
from tripletcl.compare import slurm
from tripletcl.compare.cluster import cluster, own_version, run_command
from tripletcl.compare.plan import PlannedRun, compare
from tripletcl.compare.processes import Job, run_jobs
from tripletcl.config import FactConfig, parse_config
from tripletcl.config.base import Engine
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.files import read_json

TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
begun = folder / "begun"
first = not begun.exists()
begun.touch()
if sys.argv[2] == "fails":
    sys.exit("tripletcl: the loss became nan")
if first and sys.argv[2] == "dies":
    os.kill(os.getppid(), signal.SIGKILL)  # the process of the engine that started it
if first and sys.argv[2] in ("dies", "long"):
    time.sleep(600)
(folder / "planned.json").rename(folder / "result.json")
"""
"""Replaces training: one kind of run fails, others are not done unless they are started again."""


def config_of(**compare: object) -> FactConfig:
    return parse_config({"compare": compare}, "test")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replace training; what the run of a method does may be set."""
    kinds: dict[str, str] = {}

    def command(run: PlannedRun) -> list[str]:
        figures = [[0.1, 0.1], [0.5, 0.1], [0.4, 0.1 + 0.01 * len(run.label)]]
        values = RunResult(run.label, 0, "random-0", ["a", "b"], figures, [0.1, 0.2, 0.3], 1.0, recall={"5": 0.5})
        (run.folder / "planned.json").write_text(json.dumps(values.to_dict()))
        return [sys.executable, "-c", TRAIN, str(run.folder), kinds.get(run.label, "")]

    monkeypatch.setattr(comparison, "_command", command)
    return kinds


# --- settings and missing libraries ---------------------------------------------------------------------------------


def test_an_engine_is_a_name_or_a_mapping() -> None:
    assert config_of().compare.engine == Engine()
    assert config_of(engine="slurm").compare.engine == Engine(name="slurm")
    engine = config_of(engine={"name": "slurm", "partition": "gpu", "gpus": 1, "hours": 12}).compare.engine
    assert (engine.partition, engine.gpus, engine.hours) == ("gpu", 1, 12)
    for wrong, message in (
        ({"name": "ray", "partition": "gpu"}, "engine ray has no partition"),
        ({"name": "local", "gpus": 1}, "engine local has no gpus"),
        ({"name": "slurm", "gpus": 0.5}, "slurm gives whole GPUs"),
        ("kubernetes", "'local', 'slurm' or 'ray'"),
    ):
        with pytest.raises(UserError, match=message):
            config_of(engine=wrong)


@pytest.mark.parametrize(("name", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"engine {name} needs {library}, .*: pip install tripletcl\[cluster\]"):
        cluster(name)


def test_a_comparison_here_imports_no_engine() -> None:
    code = "import sys, tripletcl.compare.plan; assert not {'ray', 'submitit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_machine_with_another_version_is_refused(tmp_path: Path) -> None:
    job = Job([sys.executable, "-c", "print('trained')"], tmp_path / "log")
    assert run_command(job, own_version()) == 0
    assert run_command(job, "0.0") == 2
    trained, refused = (tmp_path / "log").read_text().splitlines()
    assert (trained, refused) == (
        "trained",
        f"tripletcl: this machine has tripletcl {own_version()}, and the comparison 0.0",
    )


# --- this machine ---------------------------------------------------------------------------------------------------


THREADS = """
import os, sys, time
from tripletcl.compare.child import end_with_parent
end_with_parent()
began = time.monotonic()
while time.monotonic() - began < float(sys.argv[1]) and os.environ["OMP_NUM_THREADS"] == "1":
    time.sleep(0.01)
print(os.environ["OMP_NUM_THREADS"])
"""


def test_the_last_runs_take_the_free_threads(tmp_path: Path) -> None:
    """Of three jobs on two of four cores each, the last one gets all."""
    code = [sys.executable, "-c", THREADS]
    jobs = [Job([*code, seconds], tmp_path / str(number)) for number, seconds in enumerate(("0.1", "0.1", "20"))]
    run_jobs(jobs, [{"OMP_NUM_THREADS": "1"}] * 2, threads=lambda running: 4 // running)
    told = [(tmp_path / str(number)).read_text().strip() for number in range(3)]
    assert (told[0], told[2]) == ("1", "4")


def test_a_failed_run_is_a_line_with_its_reason(tmp_path: Path, quick: dict[str, str]) -> None:
    quick["ewc"] = "fails"
    lines: list[str] = []
    with pytest.raises(UserError, match="1 of 2 runs failed: ewc"):
        compare(config_of(methods=["ewc", "mas"], jobs=2), tmp_path, lines.append)
    assert "1/2 ewc, split 0, seed 0: failed: the loss became nan" in lines


# --- SLURM ----------------------------------------------------------------------------------------------------------


def test_without_slurm_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no SLURM here: the command squeue is missing"):
        slurm.read_queue()
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    with pytest.raises(UserError, match="SLURM does not answer: slurm_load_jobs error"):
        slurm.read_queue()


def test_a_job_that_has_to_make_room_is_the_same_again(tmp_path: Path) -> None:
    """By submitit's own executor on this machine."""
    submitit = pytest.importorskip("submitit")
    job = Job([sys.executable, "-c", "print('trained')"], tmp_path / "log")
    again = slurm.Command(job, own_version()).checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function.job == job
    executor = submitit.AutoExecutor(folder=tmp_path, cluster="debug")
    assert executor.submit(slurm.Command(job, own_version())).result() == 0
    assert (tmp_path / "log").read_text() == "trained\n"


CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} CPUs=2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def daemons(commands: list[list[str]], folder: Path) -> Iterator[None]:
    """Run daemons in the foreground, and end them."""
    running = []
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.out").open("w") as output:
                running.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
            time.sleep(0.5)
        yield
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(20)


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A SLURM of one node."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"SLURM is not installed: {missing[0]} is missing (apt install slurm-wlm munge)")
    if os.geteuid() or find_spec("submitit") is None:
        pytest.skip("the daemons of SLURM are started by root, and need submitit")
    folder = Path(tmp_path_factory.mktemp("slurm"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, ports=free_ports(2)))
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munged += [f"--{what}-file={folder}/munge.{what}" for what in ("pid", "seed", "log")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setattr(slurm, "POLL_SECONDS", 1.0)
        with daemons([munged, ["slurmctld", "-D"], ["slurmd", "-D"]], folder):
            yield folder


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def put_back(out: Path) -> None:
    """Put the job of MAS back into the queue once it has begun, and let it start again at once."""
    folder = next(out.glob("mas-*"))
    while not (folder / "begun").exists():
        time.sleep(0.2)
    number = read_json(out / "slurm" / "jobs.json")["jobs"][str(folder / "train.log")]
    subprocess.run(["scontrol", "requeue", number], check=True)
    time.sleep(5)  # a node refuses a job that is back within the second in which it was killed
    now = ["scontrol", "update", f"JobId={number}", "StartTime=now"]  # SLURM would hold it for two minutes
    while not (folder / "result.json").exists():
        subprocess.run(now, check=False, capture_output=True)
        time.sleep(0.5)


@pytest.mark.slow
def test_runs_of_a_comparison_are_a_job_array_of_slurm(
    one_node: Path, tmp_path: Path, quick: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is stopped and repeated, one run fails, and one is put back into the queue."""
    quick |= {"ewc": "fails", "mas": "long"}
    lines: list[str] = []
    config = config_of(methods=["finetune", "mas", "ewc"], engine={"name": "slurm", "hours": 0.1})
    waits = slurm._wait
    monkeypatch.setattr(slurm, "_wait", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(config, tmp_path)
    monkeypatch.setattr(slurm, "_wait", waits)
    numbers = (tmp_path / "slurm" / "jobs.json").read_bytes()
    threading.Thread(target=put_back, args=[tmp_path], daemon=True).start()
    with pytest.raises(UserError, match=r"1 of 3 runs failed: ewc.*the first says: the loss became nan"):
        compare(config, tmp_path, lines.append)
    assert (tmp_path / "slurm" / "jobs.json").read_bytes() == numbers  # nothing was submitted twice
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    assert any("ewc, split 0, seed 0: failed: the loss became nan" in line for line in lines)
    assert any("mas, split 0, seed 0: " in line and ", MAP .300" in line for line in lines)


@pytest.mark.slow
def test_slurm_refuses_in_a_sentence(one_node: Path, tmp_path: Path, quick: dict[str, str]) -> None:
    config = config_of(methods=["mas"], engine={"name": "slurm", "partition": "nowhere"})
    with pytest.raises(UserError, match=r"SLURM refuses the jobs: .*Invalid partition"):
        compare(config, tmp_path)


# --- Ray ------------------------------------------------------------------------------------------------------------


class RayError(Exception):
    """As Ray raises it for a task that it gave up."""


class ThreadsAsRay:
    """The few functions of Ray that the engine calls, by threads; the second task is lost."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.most, self.running, self.pool = 0, 0, ThreadPoolExecutor(4)

    def init(self, **options: object) -> None:
        self.options |= options

    def is_initialized(self) -> bool:
        return False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def remote(self, **options: object) -> Callable[[Callable[..., int]], object]:
        self.options |= options
        return lambda function: SimpleNamespace(remote=lambda *arguments: self.start(function, *arguments))

    def start(self, function: Callable[..., int], *arguments: object) -> Future[int]:
        self.running += 1
        self.most = max(self.most, self.running)
        return self.pool.submit(function, *arguments)

    def wait(self, references: list[Future[int]]) -> tuple[list[Future[int]], list[Future[int]]]:
        done = next(iter(as_completed(references)))
        self.running -= 1
        return [done], [each for each in references if each is not done]

    def get(self, reference: Future[int]) -> int:
        if reference.result() == 3:
            raise RayError("trace\nThe node of the task died")
        return reference.result()

    def shutdown(self) -> None:
        self.pool.shutdown()


def test_tasks_are_started_as_others_end_and_a_lost_one_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = ThreadsAsRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    jobs = [Job([sys.executable, "-c", f"raise SystemExit({code})"], tmp_path / str(code)) for code in (0, 3, 2, 0)]
    events: list[str] = []
    engine = Engine(name="ray", cpus=2, gpus=0.5)
    cluster("ray")(jobs, engine, tmp_path, 2, lambda n: events.append(f"+{n}"), lambda n: events.append(f"-{n}"))
    assert sorted(events) == [f"{sign}{n}" for sign in "+-" for n in range(4)]
    assert events[:2] == ["+0", "+1"]
    assert ray.most == 2
    assert {"num_cpus": 2, "num_gpus": 0.5, "address": None, "include_dashboard": False}.items() <= ray.options.items()
    assert (tmp_path / "3").read_text() == "tripletcl: Ray gave the run up: The node of the task died\n"
    assert (tmp_path / "2").read_text() == ""


@pytest.mark.slow
def test_runs_of_a_comparison_are_tasks_of_ray(
    tmp_path: Path, quick: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run fails, and the worker of one is killed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install tripletcl[cluster]")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    quick |= {"ewc": "fails", "mas": "dies"}
    lines: list[str] = []
    with pytest.raises(UserError, match=r"1 of 3 runs failed: ewc.*the first says: the loss became nan"):
        compare(config_of(methods=["finetune", "mas", "ewc"], engine="ray"), tmp_path, lines.append)
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    assert any("ewc, split 0, seed 0: failed: the loss became nan" in line for line in lines)
    with pytest.raises(UserError, match=r"there is no Ray cluster at 127\.0\.0\.1:1"):
        compare(config_of(methods=["si"], engine={"name": "ray", "address": "127.0.0.1:1"}), tmp_path)
