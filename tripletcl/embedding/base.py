"""Knowledge of a model before it is taught: a block of every unit's vector that no task changes.

A unit's vector is `[base | taught | rest]`. The base block of a photo and of a text come from networks that are never
trained. The taught block is that of the readout: a sum of the text vectors of taught facts, each weighted by its score.
Its length is how much the model has been taught about a photo, so it is kept: the rest makes the whole vector one of
length 1, and no text has a rest. A text that was never taught has a base block only, so that its answers stay as they
were, whatever the model is taught.

The base is that of a pair of encoders that meet in a space of their own (`model.pair`), or a **soft vocabulary**: a
network's posteriors p over the classes that it was trained on, and for a text the weights w of the classes,

    w = softmax(SHARPNESS * cos(text, description)),    score = sum_c sqrt(p_c) sqrt(w_c),

the Bhattacharyya coefficient of two distributions, which is an inner product of vectors of length 1. ConSE (Norouzi et
al., ICLR 2014) averages the vectors of the names instead, and finds less (docs/measured/base.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.data.facts import UNITS
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text_base import IMAGE_SHARE, TEMPERATURE
from tripletcl.embedding.weights import EFFICIENTNET_LITE_SHA256, efficientnet_lite_weights
from tripletcl.errors import UserError

CLASSIFIERS = {f"timm/tf_efficientnet_lite{number}": number for number in range(len(EFFICIENTNET_LITE_SHA256))}
"""Networks whose installed weights have a classifier of ImageNet's 1,000 classes."""
CLASSES = 1000


@dataclass(frozen=True)
class Shape:
    """The sizes of a base.

    Attributes:
        width: W, the width of its block.
        soft: True for a soft vocabulary, of W classes; False for a pair of encoders.
    """

    width: int
    soft: bool


def base_shape(spec: EmbedderSpec) -> Shape | None:
    """Return the sizes of the base that a model's settings ask for; None without one.

    Raises:
        UserError: the network has no classifier, or there is no pair.
    """
    if spec.base is None:
        return None
    if spec.base == "pair":
        if spec.pair is None:
            raise UserError("model.base is pair, but there is no model.pair: name its folder, or set base to classes")
        return Shape(spec.width, soft=False)
    if spec.backbone not in {*CLASSIFIERS, *(name.partition("/")[2] for name in CLASSIFIERS)}:
        raise UserError(
            f"model.base is classes, but no classifier of {spec.backbone} is installed; there are those of "
            f"{', '.join(CLASSIFIERS)}"
        )
    return Shape(CLASSES, soft=True)


def vector_width(spec: EmbedderSpec) -> int:
    """Return the width of a model's vectors: with a base, W + D + 1.

    Raises:
        UserError: as `base_shape`.
    """
    shape = base_shape(spec)
    return spec.width if shape is None else shape.width + spec.width + 1


class ImageBase(nn.Module):
    """Maps the representation of an image to its base block `[B, W]`, and puts it before the taught block.

    Args:
        features: Width of the features that it reads, which come first in a representation.
        shape: Of the base.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, shape: Shape) -> None:
        super().__init__()
        self.features, self.soft = features, shape.soft
        self.register_buffer("weight", torch.zeros(shape.width, features))
        self.register_buffer("bias", torch.zeros(shape.width))

    def forward(self, representation: Tensor) -> Tensor:
        """Compute base blocks `[B, W]` of length 1 of representations `[B, C]`."""
        outputs = F.linear(representation[:, : self.features], self.weight, self.bias)
        return (outputs / TEMPERATURE).softmax(1).sqrt() if self.soft else F.normalize(outputs, dim=1)

    def join(self, representation: Tensor, taught: Tensor) -> Tensor:
        """Make whole vectors `[B, U, W + D + 1]` of length 1; taught blocks `[B, U, D]` are cut to length 1."""
        own = self(representation)[:, None].expand(-1, len(UNITS), -1)
        taught = taught / taught.norm(dim=2, keepdim=True).clamp(min=1)
        rest = (1 - taught.square().sum(dim=2, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat(
            [IMAGE_SHARE**0.5 * own, (1 - IMAGE_SHARE) ** 0.5 * taught, (1 - IMAGE_SHARE) ** 0.5 * rest], dim=2
        )


class TextBase(nn.Module):
    """The stored part of the text side: `tripletcl.embedding.text_base` computes with it.

    Args:
        encoded: E, the width of the encoder's vectors.
        shape: Of the base.

    Attributes:
        descriptions: `[W, E]` the normalised vectors of the descriptions of classes; of no row in a pair.
        names: `[W, E]` those of their first names.
    """

    descriptions: Tensor
    names: Tensor

    def __init__(self, encoded: int, shape: Shape) -> None:
        super().__init__()
        self.soft = shape.soft
        self.register_buffer("descriptions", torch.zeros(shape.width if shape.soft else 0, encoded))
        self.register_buffer("names", torch.zeros_like(self.descriptions))


def start_image_base(spec: EmbedderSpec, base: ImageBase, heads: nn.ModuleList) -> None:
    """Set the map of an untrained base: the network's own classifier, or the projection that the heads start at."""
    if base.soft:
        state = efficientnet_lite_weights(CLASSIFIERS[f"timm/{str(spec.backbone).removeprefix('timm/')}"])
        base.weight.copy_(state["classifier.weight"])
        base.bias.copy_(state["classifier.bias"])
        return
    head = heads[0]
    assert isinstance(head, nn.Linear)
    base.weight.copy_(head.weight.detach()[: spec.width])


def start_text_base(base: TextBase, encode: Callable[[Sequence[str]], Tensor]) -> tuple[str, ...]:
    """Encode what the classes are; returns that, `notebook, notebook computer: a small portable computer`."""
    if not base.soft:
        return ()
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    described = tuple(info.index_to_description(number, detailed=True) for number in range(CLASSES))
    base.descriptions.copy_(F.normalize(encode(described), dim=1))
    names = [each.partition(": ")[0].split(", ")[0] for each in described]
    base.names.copy_(F.normalize(encode(names), dim=1))
    return described
