"""Images and texts as vectors in one space; a name is imported on first use, as asking an index needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tripletcl.embedding.backbones import Backbone, build_backbone
    from tripletcl.embedding.classifier import Classifier, Prediction, build_classifier
    from tripletcl.embedding.embedder import FactEmbedder, build_embedder
    from tripletcl.embedding.fact_learner import FactLearner
    from tripletcl.embedding.image import ImageBranch
    from tripletcl.embedding.losses import contrastive, wildcard_cosine, wildcard_l2, wildcard_l2_root
    from tripletcl.embedding.spec import ClassifierSpec, EmbedderSpec
    from tripletcl.embedding.text import TextBranch
    from tripletcl.embedding.text_embedder import TextEmbedder
    from tripletcl.embedding.text_encoders import build_text_encoder
    from tripletcl.embedding.word_vectors import WordVectors

__all__ = [
    "Backbone",
    "Classifier",
    "ClassifierSpec",
    "EmbedderSpec",
    "FactEmbedder",
    "FactLearner",
    "ImageBranch",
    "Prediction",
    "TextBranch",
    "TextEmbedder",
    "WordVectors",
    "build_backbone",
    "build_classifier",
    "build_embedder",
    "build_text_encoder",
    "contrastive",
    "wildcard_cosine",
    "wildcard_l2",
    "wildcard_l2_root",
]

_HOMES = {
    "Backbone": "backbones",
    "Classifier": "classifier",
    "ClassifierSpec": "spec",
    "EmbedderSpec": "spec",
    "FactEmbedder": "embedder",
    "FactLearner": "fact_learner",
    "ImageBranch": "image",
    "Prediction": "classifier",
    "TextBranch": "text",
    "TextEmbedder": "text_embedder",
    "WordVectors": "word_vectors",
    "build_backbone": "backbones",
    "build_classifier": "classifier",
    "build_embedder": "embedder",
    "build_text_encoder": "text_encoders",
    "contrastive": "losses",
    "wildcard_cosine": "losses",
    "wildcard_l2": "losses",
    "wildcard_l2_root": "losses",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
