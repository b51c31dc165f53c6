"""Settings of an embedder of facts and of a classifier of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class EmbedderSpec:
    """The settings of `build_embedder`, saved with the weights.

    The paper's network is backbone "torchvision/vgg16" with freeze_until "conv2", fork_at "conv3", width 300 and
    head_std 0.005.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    backbone: str | tuple[str, ...] = "timm/tf_efficientnet_lite0"
    """`torchvision/<model>`, `timm/<model>`, a bare model name, or `hf/<folder or name>`, a checkpoint of transformers;
    or a list of networks, whose features an analytic readout reads side by side (they need `freeze_until: all`)."""
    weights: str = "bundled"
    """Initial weights: "bundled" (installed with tripletcl: EfficientNet-Lite0, and with the extra `encoders` Lite1 and
    Lite2; or the own ones of a checkpoint of transformers), "none", "download", or a weights file."""
    freeze_until: str | None = None
    """The backbone's last stage that is never trained; null trains all, "all" trains none."""
    fork_at: str | None = None
    """The last stage before the network forks into a subject and a predicate/object branch; null does not fork."""
    hidden: int = 0
    """Width of a hidden layer in each head; 0 for none."""
    head_std: float | None = None
    """Standard deviation of the initial last layers; null keeps torch's initialisation."""
    pooled: tuple[str, ...] = ()
    """Stages whose spatial means an analytic readout reads in addition to the last stage's features; of several
    networks each that has them."""
    width: int = 384
    """Width of each unit's vector; without a text projection it is the text encoder's."""
    text: str = "minilm"
    """Text encoder: "minilm" (installed with tripletcl), a folder or name of a transformers model (of a CLIP-like one
    the projected output of its text tower), a folder of sentence-transformers with its own pooling, or a file of word
    vectors (GloVe or word2vec text, or word2vec binary with suffix .bin)."""
    text_prompts: tuple[str, ...] = ()
    """Templates of the texts of subjects, predicates and objects, such as "a photo of a {}"; empty reads the texts as
    they are."""
    pair: str | None = None
    """The folder or name of a CLIP or SigLIP checkpoint, which is the image network, the text encoder and the width;
    each head starts at its projection, so that facts can be asked for before any was taught."""
    base: Literal["classes", "pair"] | None = None
    """What the model knows before it is taught, and keeps whatever it is taught: "classes", those of ImageNet by the
    network's own classifier (EfficientNet-Lite0, and with the extra `encoders` Lite1 and Lite2), which any word is
    compared with; "pair", the common space of `pair`; null nothing. It needs the analytic method."""
    text_projection: bool = False
    """Train a linear map from the text encoder's vectors to `width`."""
    text_normalise: bool = True
    """Scale every text vector to length 1."""
    centre: bool = False
    """Subtract the mean vector of the first task's texts."""
    whiten: bool = False
    """Whiten the text vectors by the first task's texts (`TextBranch.whiten`); an analytic readout recomputes
    this from all texts so far."""
    whitening_floor: float = 0.1
    """Added to the variance of every direction, relative to the largest: 1e6 only centres; less separates further."""
    image_size: int = 128
    """Side in pixels of the square that images are cropped to."""
    network_sizes: tuple[int, ...] = ()
    """Side in pixels to which each of several networks scales this square; empty leaves it as it is."""
    random_features: int = 0
    """Width of the analytic readout that a method installed in place of the heads; 0 for none. Set by the method."""
    random_seed: int = 0
    """Seed of its random layer. Set by the method."""
    scored_by: Literal["text", "indicators", "both"] = "text"
    """Score of facts that were taught: the cosine of vectors ("text"), the analytic readout's scores of the facts
    themselves ("indicators"), or both. Set by the method."""

    def prompt(self, text: str, unit: int | None) -> str:
        """Return what the text encoder reads for a text of this unit (0 to 2); None for a text of no certain unit."""
        return text if unit is None or not self.text_prompts else self.text_prompts[unit].replace("{}", text)


@dataclass(frozen=True)
class ClassifierSpec:
    """The settings of `build_classifier` in addition to the classes, saved with the weights.

    The paper's network is backbone "torchvision/alexnet".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    backbone: str | tuple[str, ...] = "timm/tf_efficientnet_lite0"
    """`torchvision/<model>`, `timm/<model>`, a bare model name, `hf/<folder or name>`, a checkpoint of transformers, or
    a perceptron for grey images, `mlp/784-256-256`; or a list of networks, whose features an analytic readout reads
    side by side (they need `freeze_until: all`)."""
    weights: str = "bundled"
    """Initial weights: "bundled" (installed with tripletcl: EfficientNet-Lite0, and with the extra `encoders` Lite1 and
    Lite2; or the own ones of a checkpoint of transformers), "none", "download", or a weights file."""
    freeze_until: str | None = None
    """The backbone's last stage that is never trained; null trains all, "all" trains none."""
    head_std: float | None = None
    """Standard deviation of the initial heads; null keeps torch's initialisation."""
    pooled: tuple[str, ...] = ()
    """Stages whose spatial means an analytic readout reads in addition to the last stage's features; of several
    networks each that has them."""
    image_size: int = 128
    """Side in pixels of the square that images are cropped to."""
    network_sizes: tuple[int, ...] = ()
    """Side in pixels to which each of several networks scales this square; empty leaves it as it is."""
    random_features: int = 0
    """Width of the analytic readout that a method installed in place of the heads; 0 for none. Set by the method."""
    random_seed: int = 0
    """Seed of its random layer. Set by the method."""
