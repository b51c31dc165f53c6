"""MAS, EWC and SI in the trainers of Hugging Face and Lightning, against a loop written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tripletcl.mas import ElasticWeightConsolidation, MemoryAwareSynapses, SynapticIntelligence

KINDS = [MemoryAwareSynapses, ElasticWeightConsolidation, SynapticIntelligence]
INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
LABELS = [torch.arange(12) % 3, (torch.arange(12) + 1) % 3]
"""The labels of each task, which contradict."""
LR, BATCH = 0.1, 4


class Network(nn.Module):
    """A model as transformers has them: named tensors in, a loss and logits out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.body(values)
        return {"logits": logits} | ({} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)})


def by_hand(kind: Any, accumulate: int) -> tuple[nn.Module, Any]:
    """Two tasks of two epochs."""
    model = Network()
    protection, optimizer = kind(model, lam=0.5), torch.optim.SGD(model.parameters(), lr=LR)
    for labels in LABELS:
        for _ in range(2):
            for number, (x, y) in enumerate(zip(INPUTS.split(BATCH), labels.split(BATCH), strict=True), 1):
                (model(x, y)["loss"] / accumulate).backward()
                if number % accumulate == 0:
                    optimizer.step()
                    protection.step(LR)
                    optimizer.zero_grad()
        protection.consolidate([{"values": INPUTS}], forward=lambda batch: model(**batch)["logits"])
    return model, protection


def with_hugging_face(kind: Any, accumulate: int, folder: Path) -> tuple[nn.Module, Any]:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    from tripletcl.plugins.huggingface import ConsolidationCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> None:
            return None

    model = Network()
    protection = kind(model, lam=0.5)
    callback = ConsolidationCallback(protection, forward=lambda batch: model(**batch)["logits"])
    for labels in LABELS:
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=2,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=accumulate,
            learning_rate=LR,
            lr_scheduler_type="constant",
            optim="sgd",
            max_grad_norm=0.0,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
        )
        rows = [{"values": x, "labels": y} for x, y in zip(INPUTS, labels, strict=True)]
        InOrder(model, arguments, train_dataset=rows, callbacks=[callback]).train()
    return model, protection


def with_lightning(kind: Any, accumulate: int, folder: Path) -> tuple[nn.Module, Any]:
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule, Trainer

    from tripletcl.plugins.lightning import ConsolidationCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = Network().body

        def forward(self, values: Tensor) -> Tensor:
            return self.body(values)

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LR)

    model = Module()
    protection = kind(model, lam=0.5)
    callback = ConsolidationCallback(protection)
    for labels in LABELS:
        trainer = Trainer(
            max_epochs=2,
            accelerator="cpu",
            accumulate_grad_batches=accumulate,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, DataLoader(list(zip(INPUTS, labels, strict=True)), batch_size=BATCH))
    restored = kind(model)
    ConsolidationCallback(restored).load_state_dict(callback.state_dict())
    torch.testing.assert_close(restored.omega, protection.omega, rtol=0, atol=0)
    return model, protection


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [with_hugging_face, with_lightning])
def test_a_trainer_with_the_callback_equals_a_loop_by_hand(
    trained: Callable[..., tuple[nn.Module, Any]], kind: Any, accumulate: int, tmp_path: Path
) -> None:
    """Also where the optimizer steps once for several batches."""
    model, protection = trained(kind, accumulate, tmp_path)
    expected, by = by_hand(kind, accumulate)
    for (name, p), q in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(protection.omega, by.omega, rtol=1e-4, atol=1e-6)
    assert not torch.equal(next(iter(protection.anchor.values())), next(Network().parameters()))
