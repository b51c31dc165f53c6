from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from toy import ToyLearner, ToySource, toy_tasks

from tripletcl.continual import Method, RunFolder, SequenceRunner, Training
from tripletcl.continual.device import make_accelerator
from tripletcl.errors import UserError


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one precision a process; a user's process has one run."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def train(folder: Path, device: str, precision: str) -> tuple[ToyLearner, list[torch.dtype]]:
    accelerator, learner, seen = make_accelerator(device, precision), ToyLearner(), []
    learner.net[0].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    source = ToySource()
    if device == "cuda":
        learner, source.inputs = learner.cuda(), source.inputs.cuda()
    training = Training(epochs=2, batch_size=16, lr=0.05)
    runner = SequenceRunner(
        learner, toy_tasks(2), Method(), source, training, accelerator, RunFolder(folder, "a: 1\n"), lambda stage: {}
    )
    runner.run()
    return learner, seen


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tmp_path: Path) -> None:
    learner, seen = train(tmp_path / "run", "cpu", "bf16")
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in learner.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_on_a_gpu(tmp_path: Path, precision: str) -> None:
    learner, _ = train(tmp_path / "run", "cuda", precision)
    assert all(torch.isfinite(p).all() and p.is_cuda for p in learner.parameters())


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [("tpu", "no", "allowed are auto, cpu, cuda"), ("cpu", "fp16", "needs a GPU")],
)
def test_what_is_not_there_is_said(device: str, precision: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_accelerator(device, precision)
