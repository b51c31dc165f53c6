"""What an embedder of facts and a classifier of objects are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class EmbedderSpec:
    """Everything that `build_embedder` needs; saved along with the weights.

    The paper's network is backbone "torchvision/vgg16" with freeze_until "conv2", fork_at "conv3", width 300 and
    head_std 0.005.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    backbone: str = "timm/tf_efficientnet_lite0"
    """`torchvision/<model>`, `timm/<model>`, or a bare model name."""
    weights: str = "bundled"
    """What the backbone starts from: "bundled" (comes with the install), "none", "download", or a weights file."""
    freeze_until: str | None = None
    """The backbone's last stage that is never trained; null trains all."""
    fork_at: str | None = None
    """The last stage before the network forks into a subject and a predicate/object branch; null does not fork."""
    hidden: int = 0
    """Width of a hidden layer in each head; 0 for none."""
    head_std: float | None = None
    """Standard deviation that the last layers start at; null keeps torch's start."""
    pooled: tuple[str, ...] = ()
    """Stages whose spatial means an analytic read-out sees beside the last stage's features."""
    width: int = 384
    """Width of each unit's vector; without a text projection that of the text encoder."""
    text: str = "minilm"
    """Text encoder: "minilm" (comes with the install), a folder or name of a transformers model, or a file of word
    vectors (GloVe or word2vec text, or word2vec binary with suffix .bin)."""
    text_projection: bool = False
    """Train a linear map from the text encoder's vectors to `width`."""
    text_normalise: bool = True
    """Give every text vector length 1."""
    centre: bool = False
    """Subtract the mean vector of the first task's texts."""
    whiten: bool = False
    """Whiten the text vectors by the first task's texts (`TextBranch.whiten`); an analytic read-out whitens them anew
    by all texts so far."""
    whitening_floor: float = 0.1
    """Added to the variance of every direction, in parts of the largest: 1e6 only centres; less separates further."""
    image_size: int = 128
    """Pixels of the square that images are cut to."""
    random_features: int = 0
    """Width of the analytic read-out that a method has put in place of the heads; 0 for none. Not to be set by hand."""
    random_seed: int = 0
    """Of its random layer. Not to be set by hand."""
    scored_by: Literal["text", "indicators", "both"] = "text"
    """What facts that were taught are scored by: the cosine of vectors, the analytic read-out's scores of the facts
    themselves, or both. Not to be set by hand."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pooled", tuple(self.pooled))  # JSON knows no tuples


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything that `build_classifier` needs beside the classes; saved along with the weights.

    The paper's network is backbone "torchvision/alexnet".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    backbone: str = "timm/tf_efficientnet_lite0"
    """`torchvision/<model>`, `timm/<model>`, a bare model name, or a perceptron for grey images, `mlp/784-256-256`."""
    weights: str = "bundled"
    """What the backbone starts from: "bundled" (comes with the install), "none", "download", or a weights file."""
    freeze_until: str | None = None
    """The backbone's last stage that is never trained; null trains all."""
    head_std: float | None = None
    """Standard deviation that the heads start at; null keeps torch's start."""
    pooled: tuple[str, ...] = ()
    """Stages whose spatial means an analytic read-out sees beside the last stage's features."""
    image_size: int = 128
    """Pixels of the square that images are cut to."""
    random_features: int = 0
    """Width of the analytic read-out that a method has put in place of the heads; 0 for none. Not to be set by hand."""
    random_seed: int = 0
    """Of its random layer. Not to be set by hand."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pooled", tuple(self.pooled))  # JSON knows no tuples
