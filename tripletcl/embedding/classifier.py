"""A classifier of objects: a trunk, and a head for each task or one for all; build, predict, save and load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.data.images import ImageLike
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.embedding.networks import trunk_settings
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.saving import SavedModel, load_model, save_model
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.embedding.trunk import Trunk, build_head, default_batch_size, pixel_batches
from tripletcl.errors import UserError, check_path
from tripletcl.files import validated
from tripletcl.files.documents import CLASSIFIER

Heads = dict[str, list[str]]
"""The classes of each head, by its name."""


@dataclass(frozen=True)
class Prediction:
    """The prediction of a head for an image: the most probable class, and all probabilities of its softmax."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Classifier(SavedModel):
    """Classifies images: a trunk that all tasks share, and heads with classes of their own.

    Labels are numbered through the heads: those of the second head follow those of the first.

    Args:
        spec: The settings that it was built from.
        trunk: The network below the heads.
        heads: The names of the heads, in order, and the names of each head's classes.

    Attributes:
        layers: The heads' layers.
        starts: The first label of each head.
        analytic: The closed-form readout that replaces the heads once it has classes; None without one.
    """

    def __init__(self, spec: ClassifierSpec, trunk: Trunk, heads: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.spec, self.trunk = spec, trunk
        self.heads = {name: tuple(classes) for name, classes in heads.items()}
        self.layers = nn.ModuleList(build_head(trunk.feature_width, len(c), spec.head_std) for c in self.heads.values())
        self.starts = [0, *accumulate(map(len, self.heads.values()))][:-1]
        self.analytic: AnalyticReadout | None = None

    @property
    def classes(self) -> int:
        """Number of labels."""
        return sum(map(len, self.heads.values()))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.trunk.mean.device

    def logits(self, representation: Tensor, heads: Sequence[int]) -> Tensor:
        """Compute the logits `[B, K]` of heads, given by number and in this order, from representations `[B, C]`."""
        if self.analytic is not None and self.analytic.classes:
            scores = self.analytic(representation)
            widths = list(map(len, self.heads.values()))
            parts = [scores[:, self.starts[head] : self.starts[head] + widths[head]] for head in heads]
        else:
            features = representation[:, : self.trunk.feature_width]
            parts = [self.layers[head](features) for head in heads]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def install_analytic(self, width: int, seed: int) -> None:
        """Install an analytic readout of `width` random features; the heads answer until it has classes."""
        self.analytic = AnalyticReadout(self.trunk.part_widths(), width, seed, (self.classes,)).to(self.device)
        self.spec = dataclasses.replace(self.spec, random_features=width, random_seed=seed)

    def set_readout(self, weight: Tensor, labels: Tensor) -> None:
        """Answer by the analytic readout, with weights `[M, K]` for these K labels."""
        assert self.analytic is not None
        self.analytic.solve(weight, nn.functional.one_hot(labels, self.classes))

    @torch.no_grad()
    def predict(
        self, images: Sequence[ImageLike], head: str | None = None, batch_size: int | None = None
    ) -> list[Prediction]:
        """Classify images in eval mode.

        Args:
            images: Paths, Pillow images, or uint8 arrays of any size.
            head: The name of the head, since the task is known; optional if there is only one.
            batch_size: Images per pass; by default `default_batch_size`.

        Raises:
            UserError: the head does not exist, or an image cannot be decoded.
        """
        number = self._head_number(head)
        names = list(self.heads.values())[number]
        predictions = []
        with eval_mode(self):
            size = self.spec.image_size
            count = default_batch_size(self.device) if batch_size is None else batch_size
            for pixels in pixel_batches(images, size, count, self.device):
                inputs = pixels.mean(dim=1, keepdim=True) if self.trunk.channels == 1 else pixels
                out = self.logits(self.trunk.represent(self.trunk.features(inputs)).float(), [number])
                predictions += [_prediction(names, row) for row in out.softmax(dim=1).tolist()]
        return predictions

    def _head_number(self, head: str | None) -> int:
        names = list(self.heads)
        if head is None and len(names) == 1:
            return 0
        if head not in names:
            problem = "name the head to use" if head is None else f"there is no head {head!r}"
            raise UserError(f"{problem}: {', '.join(names)}")
        return names.index(head)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `classifier.json` and `model.safetensors`, each whole or not at all."""
        save_model(Path(folder), CLASSIFIER, self, {"spec": dataclasses.asdict(self.spec), "heads": self.heads})

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> Classifier:
        """Load a folder of `save_pretrained`; nothing is downloaded and no pickle is read.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        folder = check_path("a classifier", folder)
        return load_model(folder, CLASSIFIER, "classifier", _parse, _rebuild).to(device).eval()


def _parse(about: Mapping[str, Any]) -> tuple[ClassifierSpec, Mapping[str, Sequence[str]]]:
    return validated(ClassifierSpec, about["spec"]), validated(Heads, about["heads"])


def _rebuild(parsed: tuple[ClassifierSpec, Mapping[str, Sequence[str]]]) -> Classifier:
    """Build a classifier whose weights will be loaded."""
    spec, heads = parsed
    classifier = build_classifier(dataclasses.replace(spec, weights="none"), heads, seed=0)
    if spec.random_features:
        classifier.install_analytic(spec.random_features, spec.random_seed)
    classifier.spec = spec
    return classifier


def build_classifier(spec: ClassifierSpec, heads: Mapping[str, Sequence[str]], seed: int) -> Classifier:
    """Build a classifier; random weights depend on the seed only, and no global generator is used.

    Raises:
        UserError: a setting has an unknown name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        return Classifier(spec, Trunk(**trunk_settings(spec)), heads).train()


def _prediction(classes: Sequence[str], probabilities: Sequence[float]) -> Prediction:
    best = max(range(len(classes)), key=probabilities.__getitem__)
    return Prediction(classes[best], probabilities[best], dict(zip(classes, probabilities, strict=True)))
