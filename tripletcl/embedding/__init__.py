"""Images and texts as vectors in one space."""

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
