"""Frozen text encoders other than the bundled one: checkpoints of transformers and sentence-transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.embedding.hf import checkpoint_errors, read_config, without_progress_bars
from tripletcl.embedding.text_vectors import TextEncoder, text_encoder
from tripletcl.embedding.weights import read_weights
from tripletcl.errors import UserError
from tripletcl.files import stat_file

MODULES_FILE = "modules.json"
"""The file by which sentence-transformers lists the parts of an encoder."""

PROJECTED = {
    "clip": "projection_dim",
    "siglip": "text_config.projection_size",
    "siglip2": "text_config.projection_size",
}
"""Types of models whose text tower has a projected output, and where their config tells its width."""


def build_text_encoder(spec: str, local_files_only: bool = True) -> TextEncoder:
    """Build a frozen text encoder.

    Args:
        spec: "minilm" (installed with tripletcl), the folder or name of a text model or of a CLIP-like model of
            transformers, a folder of sentence-transformers, or a file of word vectors (`WordVectors`).
        local_files_only: Never download; a model name must have been downloaded before.

    Raises:
        UserError: the encoder does not exist, or is of a kind that is not known.
    """
    path = Path(spec)
    if spec == "minilm" or path.is_file():
        return text_encoder(spec)
    if path.suffix in (".bin", ".txt", ".vec"):
        raise UserError(f"there is no file of word vectors {spec}")
    return _transformer(spec, local_files_only)


@lru_cache(maxsize=2)
def _transformer(spec: str, local_files_only: bool) -> TransformerEncoder:
    """Build one encoder for all embedders: its weights may take hundreds of MB."""
    if (Path(spec) / MODULES_FILE).is_file():
        folder, reading = read_sentence_transformer(Path(spec))
        width = len(reading.modes) * config_width(str(folder), read_config(str(folder)))
        return TransformerEncoder(str(folder), reading, reading.width(width))
    config = _text_config(spec, local_files_only)
    if config.model_type in PROJECTED:
        return TransformerEncoder(
            spec, Projected(config.text_config.max_position_embeddings), config_width(spec, config)
        )
    return TransformerEncoder(spec, States(), config_width(spec, config), local_files_only)


def _text_config(spec: str, local_files_only: bool) -> Any:
    try:
        return read_config(spec, not local_files_only)
    except UserError as error:
        raise UserError(
            f"there is no text encoder {spec!r} on this machine: give minilm, the folder or name of a text model of "
            "transformers, a folder of sentence-transformers, or a file of word vectors"
        ) from error


def config_width(name: str, config: Any) -> int:
    """Read the width of a model's vectors from its config.

    Raises:
        UserError: it reads no texts.
    """
    value = config
    for part in PROJECTED.get(config.model_type, "hidden_size").split("."):
        value = getattr(value, part, None)
    if value is None or not hasattr(getattr(config, "text_config", config), "vocab_size"):
        raise UserError(
            f"the checkpoint {name} is a {config.model_type}, which reads no texts: give that of a text model"
        )
    return int(value)


# --- ways to read a text ----------------------------------------------------------------------------------------------


def _mean(states: Tensor) -> Tensor:
    return states.sum(0) / torch.tensor(len(states))


def _weighted_mean(states: Tensor) -> Tensor:
    weights = torch.arange(1.0, len(states) + 1)
    return weights @ states / weights.sum()


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda states: states[0],
    "max": lambda states: states.amax(0),
    "mean": _mean,
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda states: states[-1],
}
"""Poolings `[T, C]` to `[C]` of sentence-transformers, in the order in which it joins them."""


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda vector: vector,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": F.gelu,
    "Sigmoid": torch.sigmoid,
}
"""Activations of the linear layers of sentence-transformers."""


@dataclass(frozen=True)
class Dense:
    """A linear layer of sentence-transformers that follows the pooling.

    Attributes:
        activation: A name of ACTIVATIONS.
        weight: `[out, in]`.
        bias: `[out]`, or None.
    """

    activation: str
    weight: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)

    def __call__(self, vector: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation](F.linear(vector, self.weight, self.bias))


@dataclass(frozen=True)
class Normalise:
    """Scales a vector to length 1."""

    def __call__(self, vector: Tensor) -> Tensor:
        return F.normalize(vector, dim=0)


@dataclass(frozen=True)
class States:
    """Reads a text by pooling a model's last hidden states, as sentence-transformers does.

    Attributes:
        modes: Names of POOLINGS, whose results are joined.
        steps: Linear layers and normalisations of the result, in their order.
        longest: Number of tokens after which a text is cut; None is the tokenizer's own.
        lower: Read the text in lower case.
    """

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[Dense | Normalise, ...] = ()
    longest: int | None = None
    lower: bool = False

    def __call__(self, tokenizer: Any, model: Any, text: str) -> Tensor:
        text = text.lower() if self.lower else text
        tokens = tokenizer(text, truncation=True, max_length=self.longest, return_tensors="pt")
        states = model(**tokens).last_hidden_state[0]  # [T, C]
        vector = torch.cat([POOLINGS[mode](states) for mode in self.modes])
        for step in self.steps:
            vector = step(vector)
        return vector

    def width(self, pooled: int) -> int:
        """Return the width of a vector whose pooled states have this width.

        Raises:
            UserError: a linear layer takes another width.
        """
        for step in self.steps:
            if isinstance(step, Dense):
                if step.weight.shape[1] != pooled:
                    raise UserError(
                        f"a linear layer takes {step.weight.shape[1]} numbers, and the pooling gives {pooled}"
                    )
                pooled = len(step.weight)
        return pooled


@dataclass(frozen=True)
class Projected:
    """Reads a text by the text tower of a CLIP-like model and its projection.

    Attributes:
        longest: Number of tokens after which a text is cut, and up to which a SigLIP, which was trained so, pads it.
    """

    longest: int

    def __call__(self, tokenizer: Any, model: Any, text: str) -> Tensor:
        padding = "max_length" if model.config.model_type.startswith("siglip") else False
        tokens = tokenizer(text, padding=padding, truncation=True, max_length=self.longest, return_tensors="pt")
        inputs = {name: tokens[name] for name in tokens if name in ("input_ids", "attention_mask")}
        features = model.get_text_features(**inputs)
        return getattr(features, "pooler_output", features)[0]  # releases of transformers differ


def read_sentence_transformer(folder: Path) -> tuple[Path, States]:
    """Read the folder of a sentence-transformers encoder: where its model is, and how it makes a vector of its states.

    Raises:
        UserError: it has other parts than a model, a pooling, linear layers and normalisations.
    """
    try:
        modules = json.loads((folder / MODULES_FILE).read_text(encoding="utf-8"))
        parts = [(module["type"].rpartition(".")[2], folder / module["path"]) for module in modules]
        if [kind for kind, _ in parts[:2]] != ["Transformer", "Pooling"]:
            raise UserError(f"{folder} does not begin with a model and a pooling, and nothing else is read")
        pooling = json.loads((parts[1][1] / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is not a whole folder of sentence-transformers: {error}") from error
    steps = tuple(_read_step(kind, part) for kind, part in parts[2:])
    modes = pooling.get("pooling_mode") or [mode for mode in POOLINGS if pooling.get(f"pooling_mode_{_legacy(mode)}")]
    modes = (modes,) if isinstance(modes, str) else tuple(modes) or ("mean",)
    if unknown := [mode for mode in modes if mode not in POOLINGS]:
        raise UserError(f"{folder} pools by {unknown[0]!r}; known are {', '.join(POOLINGS)}")
    about = folder / "sentence_bert_config.json"
    limits = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
    return parts[0][1], States(modes, steps, limits.get("max_seq_length"), bool(limits.get("do_lower_case")))


def _read_step(kind: str, folder: Path) -> Dense | Normalise:
    """Read what follows the pooling."""
    if kind == "Normalize":
        return Normalise()
    if kind != "Dense":
        raise UserError(f"{folder.parent} has the part {kind}; after the pooling only Dense and Normalize are read")
    path = folder / "model.safetensors"
    weights = read_weights(path if path.is_file() else folder / "pytorch_model.bin")
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        activation = about.get("activation_function", "Tanh").rpartition(".")[2]
        layer = Dense(activation, weights["linear.weight"].float(), weights.get("linear.bias"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is not a whole linear layer of sentence-transformers: {error}") from error
    if activation not in ACTIVATIONS:
        raise UserError(f"{folder} has the activation {activation}; known are {', '.join(ACTIVATIONS)}")
    return layer


def _legacy(mode: str) -> str:
    """The name of a pooling in the files of older releases."""
    return f"{mode}_tokens" if mode in ("max", "mean", "weightedmean") else {"cls": "cls_token"}.get(mode, mode)


class TransformerEncoder:
    """A text model of transformers, and the way to read a text's vector from it.

    Runs on the CPU, one text at a time: the last bits of a vector depend on the device and on the rest of the batch,
    and a resumed run must see the same targets.

    Args:
        name: Folder or name of the model.
        reading: Makes the vector of a text by a tokenizer and a model.
        width: Of its vectors.
        local_files_only: Never download.
    """

    def __init__(
        self,
        name: str,
        reading: Callable[[Any, Any, str], Tensor],
        width: int,
        local_files_only: bool = True,
    ) -> None:
        self.name, self.reading, self.width = name, reading, width
        self.options = {"local_files_only": local_files_only}

    def __deepcopy__(self, memo: dict) -> TransformerEncoder:
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode texts as vectors `[n, width]`."""
        tokenizer, model = self._loaded
        vectors = [self.reading(tokenizer, model, text) for text in texts]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.width)

    @cached_property
    def fingerprint(self) -> str | None:
        """16 hex digits of all that a vector depends on: files, libraries, processor; None where no folder is known."""
        if not Path(self.name).is_dir():
            return None
        files = sorted(file for file in Path(self.name).rglob("*") if file.is_file())
        stamps = [(str(file.relative_to(self.name)), stat_file(file)) for file in files]
        made_by = torch.__version__, version("transformers"), torch.backends.cpu.get_cpu_capability()
        return hashlib.sha256(repr((self.name, self.reading, stamps, made_by)).encode()).hexdigest()[:16]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model; loaded on first use, since a search by image needs no text encoder."""
        from transformers import AutoModel, AutoTokenizer

        with without_progress_bars(), checkpoint_errors(self.name, not self.options["local_files_only"]):
            tokenizer = AutoTokenizer.from_pretrained(self.name, **self.options)
            model = AutoModel.from_pretrained(self.name, **self.options)
        return tokenizer, model.float().eval()
