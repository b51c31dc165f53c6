from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import ToyLearner, ToySource, toy_tasks

from tripletcl.continual import Method, RunFolder, SequenceRunner, Training
from tripletcl.continual.device import Compute, compute_on
from tripletcl.errors import UserError


def train(folder: Path, compute: Compute) -> tuple[ToyLearner, list[torch.dtype]]:
    learner, dtypes = ToyLearner(), []
    learner.net[0].register_forward_hook(lambda _, __, out: dtypes.append(out.dtype))
    source = ToySource()
    if compute.device.type == "cuda":
        learner, source.inputs = learner.cuda(), source.inputs.cuda()
    training = Training(epochs=2, batch_size=16, lr=0.05)
    runner = SequenceRunner(
        learner, toy_tasks(2), Method(), source, training, compute, RunFolder(folder, "a: 1\n"), lambda stage: {}
    )
    runner.run()
    return learner, dtypes


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tmp_path: Path) -> None:
    learner, dtypes = train(tmp_path / "run", compute_on("cpu", "bf16"))
    assert set(dtypes) == {torch.bfloat16}
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in learner.parameters())


def test_one_precision_after_another_in_one_process(tmp_path: Path) -> None:
    for number, (precision, dtype) in enumerate([("float32", torch.float32), ("bf16", torch.bfloat16)] * 2):
        _, dtypes = train(tmp_path / str(number), compute_on("cpu", precision))
        assert set(dtypes) == {dtype}


def scaled(start: float) -> Compute:
    """fp16 with a gradient scaler, as on a GPU."""
    return Compute(torch.device("cpu"), "fp16", torch.amp.GradScaler("cpu", init_scale=start))


def test_a_scaled_loss_trains_as_the_loss_itself(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "plain", replace(scaled(1.0), scaler=None))
    compute = scaled(2.0**10)
    scaled_learner, dtypes = train(tmp_path / "scaled", compute)
    assert set(dtypes) == {torch.float16}
    assert compute.scaler is not None
    assert compute.scaler.get_scale() >= 2.0**10  # no step overflowed
    for p, q in zip(scaled_learner.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0.02, atol=0.005)


def test_steps_that_overflow_are_skipped_until_the_scale_is_small_enough(tmp_path: Path) -> None:
    compute = scaled(2.0**40)
    learner, _ = train(tmp_path / "run", compute)
    assert compute.scaler is not None
    assert compute.scaler.get_scale() < 2.0**40
    assert all(torch.isfinite(p).all() for p in learner.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_on_a_gpu(tmp_path: Path, precision: str) -> None:
    learner, _ = train(tmp_path / "run", compute_on("cuda", precision))
    assert all(torch.isfinite(p).all() and p.is_cuda for p in learner.parameters())


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [("tpu", "float32", "allowed are auto, cpu, cuda"), ("cpu", "fp16", "needs a GPU")],
)
def test_missing_devices_are_named(device: str, precision: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compute_on(device, precision)
