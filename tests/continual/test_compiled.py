"""`Training.compile`: the same training, compiled once for all tasks; nothing of it where it is not asked for."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn
from toy import ITEMS, WIDTH, MultiHeadToy, assert_same, multi_head_tasks, run_multi_head, run_toy

from tripletcl.config import load_config
from tripletcl.continual import Method, Task, Training, compiled
from tripletcl.continual.compiled import check_compile, represent_of
from tripletcl.continual.device import compute_on
from tripletcl.embedding.backbones import build_backbone
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.fact_learner import FactLearner
from tripletcl.embedding.image import ImageBranch
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.errors import UserError
from tripletcl.methods import METHODS
from tripletcl.methods.imm import IMM

TRAINING = Training(epochs=3, head_epochs=1, batch_size=16, lr=0.05, checkpoint_minutes=0)
COMPILED = replace(TRAINING, compile="default")
Forms = list[torch.fx.GraphModule]
TRIAL = (3,)


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forms]:
    """What was compiled, the trial aside, by a backend that needs no compiler: it runs what was traced as it is."""
    found: Forms = []

    def backend(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        if inputs[0].shape != TRIAL:
            found.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "_how", lambda mode: {"backend": backend, "fullgraph": True})
    torch.compiler.reset()
    yield found
    torch.compiler.reset()


MANY: dict[str, Callable[[], Method]] = {
    "finetune": Method,
    "mas": lambda: METHODS["mas"](lam=0.1, penalty="gradient"),
    "si": METHODS["si"],
    "imm": lambda: IMM(lam=1.0, drop=0.3),
    "lwf": METHODS["lwf"],
    "ebll": lambda: METHODS["ebll"](epochs=2),
}


@pytest.mark.parametrize("name", MANY)
def test_compiled_equals_plain_bit_for_bit(tmp_path: Path, forms: Forms, name: str) -> None:
    """Heads of different width, weights that a method changes in place, a trunk that stands still at first."""
    plain, _ = run_multi_head(tmp_path / "plain", MANY[name](), training=TRAINING)
    assert not forms
    ours, _ = run_multi_head(tmp_path / "ours", MANY[name](), training=COMPILED)
    assert_same(plain, ours)
    assert 1 <= len(forms) <= 2  # with and without a backward pass, whatever the number of tasks


def test_stopped_anywhere_and_started_again_is_as_uninterrupted(tmp_path: Path, forms: Forms) -> None:
    whole, _ = run_multi_head(tmp_path / "whole", MANY["lwf"](), training=COMPILED)
    for attempt in itertools.count(1):
        try:
            pieces, _ = run_multi_head(tmp_path / "pieces", MANY["lwf"](), training=COMPILED, stop_after=5)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
            torch.compiler.reset()  # as in a new process
    assert attempt > 1
    assert_same(whole, pieces)


def wide_tasks(count: int) -> list[Task]:
    """Tasks with heads of 2, 3, 4, ... classes, and a last batch of another size in each."""
    bounds, tasks = np.cumsum([0, *range(2, count + 2)]), []
    for number in range(count):
        classes, items = np.arange(bounds[number], bounds[number + 1]), np.arange(33 + number) % ITEMS
        targets = classes[items % len(classes)]
        tasks.append(Task(f"task {number + 1}", items, targets, classes, np.arange(classes[0]), items))
    return tasks


def test_eight_heads_of_different_width_need_no_compilation_of_their_own(tmp_path: Path, forms: Forms) -> None:
    tasks, training = wide_tasks(8), replace(COMPILED, head_epochs=0, epochs=1)
    ours, _ = run_toy(tmp_path / "ours", Method(), tasks=tasks, learner=MultiHeadToy(tasks), training=training)
    assert len(forms) == 1
    plain_training = replace(training, compile="no")
    plain, _ = run_toy(tmp_path / "plain", Method(), tasks=tasks, learner=MultiHeadToy(tasks), training=plain_training)
    assert_same(plain, ours)


def test_only_whole_batches_are_compiled(forms: Forms) -> None:
    """A process that meets the small one first must compile as one that meets it last."""
    learner = MultiHeadToy(multi_head_tasks()).eval()
    represent = represent_of(learner, "default", 16)
    for rows in (5, 16, 1, 7, 16):
        inputs = torch.randn(rows, WIDTH)
        assert torch.equal(represent(inputs), learner.represent(inputs))
    assert len(forms) == 1
    (batch,) = (node.meta["example_value"] for node in forms[0].graph.nodes if node.name == "l_inputs_")
    assert batch.shape == (16, WIDTH)


@pytest.fixture
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "compute_on", lambda device: compute_on(device, "bf16"))


@pytest.mark.parametrize("name", ["lwf", "imm"])
def test_under_autocast(tmp_path: Path, forms: Forms, in_bf16: None, name: str) -> None:
    plain, _ = run_multi_head(tmp_path / "plain", MANY[name](), training=TRAINING)
    ours, _ = run_multi_head(tmp_path / "ours", MANY[name](), training=COMPILED)
    assert_same(plain, ours)
    assert 1 <= len(forms) <= 2
    made = [node.meta["example_value"] for node in forms[0].graph.nodes if node.op == "call_function"]
    assert torch.bfloat16 in {value.dtype for value in made if isinstance(value, Tensor)}


def objects(backbone: str, freeze_until: str | None) -> ObjectLearner:
    spec = ClassifierSpec(backbone, "none", image_size=64, freeze_until=freeze_until)
    learner = ObjectLearner(build_classifier(spec, {"a": ["x", "y"], "b": ["p", "q", "r"]}, seed=0))
    learner.begin_task(Task("b", np.arange(2), np.array([2, 4]), np.array([2, 3, 4])))
    return learner.train()


NETWORKS = [
    ("torchvision/vgg16", "conv3"),
    ("torchvision/alexnet", "conv2"),
    ("torchvision/resnet18", "layer2"),
    ("timm/tf_efficientnet_lite0", "blocks4"),
    ("timm/tf_efficientnet_lite0", None),
]


@pytest.mark.parametrize(("backbone", "freeze_until"), NETWORKS)
def test_the_networks_compile_in_one_piece(forms: Forms, backbone: str, freeze_until: str | None) -> None:
    learner = objects(backbone, freeze_until)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for represent in (learner.represent, represent_of(learner, "default", 2)):
        torch.manual_seed(1)
        found.append(represent(images))
    assert len(forms) == 1
    assert torch.equal(*found)
    assert found[1].requires_grad


class ImageSide(nn.Module):
    """As much of an embedder as the image side needs."""

    def __init__(self, image: ImageBranch) -> None:
        super().__init__()
        self.image = image


@pytest.mark.parametrize("fork_at", [None, "conv4"])
def test_facts_compile_in_one_piece(forms: Forms, fork_at: str | None) -> None:
    branch = ImageBranch(build_backbone("torchvision/alexnet", "none"), 6, freeze_until="conv1", fork_at=fork_at)
    learner = FactLearner(ImageSide(branch), ())  # type: ignore[arg-type]
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    compiled_whole = torch.compile(learner.forward, dynamic=False, **compiled._how("default"))
    for ours, plain in ((represent_of(learner, "default", 2), learner.represent), (compiled_whole, learner.forward)):
        torch.manual_seed(1)
        found = ours(images)
        torch.manual_seed(1)
        assert torch.equal(found, plain(images))
    assert len(forms) == 2


def test_nothing_is_compiled_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("something is compiled")

    monkeypatch.setattr(torch, "compile", fail)
    assert load_config("demo").training.compile == Training().compile == "no"
    run_multi_head(tmp_path / "run", Method(), training=TRAINING)


def test_the_loop_alone_imports_no_compiler() -> None:
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nimport tripletcl.continual.compiled\n"
        "from tripletcl.continual.sequence import SequenceRunner\n"
        "new = {name for name in set(sys.modules) - before if name.startswith(('torch._dynamo', 'torch._inductor'))}\n"
        "assert not new, new"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_where_nothing_can_be_compiled_nothing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: Any) -> None:
        raise RuntimeError("No working C++ compiler found.\nSet the environment variable CXX.")

    monkeypatch.setattr(compiled, "_how", lambda mode: {"backend": backend})
    with pytest.raises(UserError) as caught:
        run_multi_head(tmp_path / "run", Method(), training=replace(COMPILED, compile="max-autotune"))
    assert str(caught.value) == (
        "training.compile is max-autotune, but torch.compile does not work here (No working C++ compiler found): "
        "a CPU needs a C++ compiler and a GPU needs Triton, or set it to 'no'"
    )
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_python_that_torch_cannot_compile_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("torch.compile is not supported on Python 3.99+")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(UserError, match=r"not supported on Python 3\.99"):
        check_compile("default", torch.device("cpu"))
    check_compile("no", torch.device("cpu"))


def test_modes() -> None:
    options = {mode: compiled._how(mode)["options"] for mode in ("default", "reduce-overhead", "max-autotune")}
    assert [bool(o.get("triton.cudagraphs")) for o in options.values()] == [False, True, True]
    assert all(o["fallback_random"] for o in options.values())
    with pytest.raises(UserError, match=r"training\.compile"):
        load_config("demo", ["training.compile=fast"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_in_earnest_agrees_to_rounding(tmp_path: Path) -> None:
    """Dropout draws the same numbers; one form, as a compilation takes seconds."""
    torch.compiler.reset()
    training = replace(TRAINING, head_epochs=0, lr=0.01)
    start = {name: value.clone() for name, value in MultiHeadToy(multi_head_tasks()).state_dict().items()}
    plain, _ = run_multi_head(tmp_path / "plain", METHODS["mas"](), training=training)
    ours, _ = run_multi_head(tmp_path / "ours", METHODS["mas"](), training=replace(training, compile="default"))
    torch.compiler.reset()
    for name, value in ours.state_dict().items():
        assert not torch.equal(value, start[name])
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-6)
