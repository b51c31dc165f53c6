"""The text branch: a frozen encoder of words, and what may be trained on top of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.embedding.weights import minilm_folder
from tripletcl.embedding.word_vectors import WordVectors
from tripletcl.errors import UserError


class TextEncoder(Protocol):
    """A frozen encoder; it holds no state that is trained or saved."""

    width: int

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors `[n, width]` float32 on the CPU; a text's vector does not depend on the others."""
        ...


def build_text_encoder(spec: str, local_files_only: bool = True) -> TextEncoder:
    """Build a frozen text encoder.

    Args:
        spec: "minilm" (comes with the install), the folder or name of a transformers text model, or a file of word
            vectors (`WordVectors`).
        local_files_only: Never download; a model name must have been downloaded before.

    Raises:
        UserError: there is no such encoder.
    """
    if spec == "minilm":
        return TransformerEncoder(str(minilm_folder()))
    path = Path(spec)
    if path.is_file():
        return WordVectors(path)
    if path.suffix in (".bin", ".txt", ".vec"):
        raise UserError(f"there is no file of word vectors {spec}")
    return TransformerEncoder(spec, local_files_only)


class TransformerEncoder:
    """The mean of a transformer's last hidden states over a text's tokens, as sentence-transformers pools them.

    Runs on the CPU and one text at a time: the last bits of a vector depend on the device and on what else is in the
    batch, and a run that goes on after a stop must see the same targets.

    Args:
        name: Folder or name of the model.
        local_files_only: Never download.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, name: str, local_files_only: bool = True) -> None:
        from transformers import AutoConfig

        self.name, self.options = name, {"local_files_only": local_files_only}
        try:
            self.width: int = AutoConfig.from_pretrained(name, **self.options).hidden_size
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"there is no text encoder {name!r} on this machine: give minilm, the folder or name of a transformers "
                "text model, or a file of word vectors"
            ) from error

    def __deepcopy__(self, memo: dict) -> TransformerEncoder:
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors `[n, width]`."""
        tokenizer, model = self._loaded
        vectors = []
        for text in texts:
            tokens = tokenizer(text, truncation=True, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state[0]  # [T, width]
            mask = tokens["attention_mask"][0].unsqueeze(-1)
            vectors.append((hidden * mask).sum(0) / mask.sum())
        return torch.stack(vectors) if vectors else torch.zeros(0, self.width)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model; loaded when first needed, as a search by image needs no text encoder."""
        from transformers import AutoModel, AutoTokenizer

        with _without_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(self.name, **self.options)
            model = AutoModel.from_pretrained(self.name, **self.options)
        return tokenizer, model.float().eval()


class TextBranch(nn.Module):
    """Texts to vectors: a frozen encoder, minus a centre, through a trained map where there is one, to length 1.

    The encoder is no part of the state_dict; the centre and the map are.

    Args:
        encoder: From `build_text_encoder`.
        projection: Width D of a trained linear map behind the encoder; None for no map.
        normalise: Give every vector length 1.
    """

    centre: Tensor

    def __init__(self, encoder: TextEncoder, *, projection: int | None = None, normalise: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalise = normalise
        self.projection = None if projection is None else nn.Linear(encoder.width, projection)
        self.width = encoder.width if projection is None else projection
        self.register_buffer("centre", torch.zeros(encoder.width))
        self._encoded: dict[str, Tensor] = {}

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors `[n, D]`."""
        return self.project(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The encoder's vectors minus the centre, `[n, E]`; they never change, so a training loop may keep them."""
        return self._raw(texts).to(self.centre.device) - self.centre

    def project(self, encoded: Tensor) -> Tensor:
        """What `forward` makes of vectors that `encode` returned: `[n, E]` to `[n, D]`."""
        vectors = encoded if self.projection is None else self.projection(encoded)
        return F.normalize(vectors, dim=-1) if self.normalise else vectors

    def set_centre(self, texts: Sequence[str]) -> None:
        """Subtract the mean vector of these texts from now on (Elhoseiny et al., AAAI 2017).

        Raises:
            UserError: the centre is set already (moving it would move every target), or there are fewer than two
                distinct texts.
        """
        if self.centre.any():
            raise UserError("the centre of the text vectors is set already; it may not move, or every target would")
        if len(set(texts)) < 2:
            raise UserError(f"the centre of the text vectors needs two distinct texts or more, but got {list(texts)}")
        self.centre.copy_(self._raw(texts).mean(dim=0))

    def add_whitening(self) -> None:
        """A linear map behind the encoder that is never trained: the identity, until `whiten` sets it."""
        self.projection = nn.Linear(self.encoder.width, self.width, device=self.centre.device).requires_grad_(False)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    @torch.no_grad()
    def whiten(self, texts: Sequence[str], floor: float) -> None:
        """Set the map to `x -> A (x - mean)`, `A = (cov + floor * largest eigenvalue of cov)^(-1/2)`, of these texts.

        An encoder of sentences puts all short texts into a narrow cone (unrelated words have a cosine near .3). What
        they have in common says nothing about a photo; whitening takes it away, and the floor keeps directions that
        the texts hardly use from being blown up, so that texts not among these keep their meaning.
        """
        vectors = self.encode(list(dict.fromkeys(texts))).double()  # [n, E]
        mean = vectors.mean(0)
        values, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))
        map_ = directions @ torch.diag((values.clamp(min=0) + floor * values.max()).rsqrt()) @ directions.T
        assert self.projection is not None
        self.projection.weight.copy_(map_)
        self.projection.bias.copy_(-map_ @ mean)

    @property
    def encoded(self) -> dict[str, Tensor]:
        """The encoder's vector of every text that it was asked for so far; they never change."""
        return dict(self._encoded)

    def know(self, encoded: Mapping[str, Tensor]) -> None:
        """Take vectors that the same encoder gave before: it need not be asked for these texts again."""
        self._encoded |= encoded

    def _raw(self, texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if new:
            self._encoded |= zip(new, self.encoder.encode(new), strict=True)
        return torch.stack([self._encoded[text] for text in texts]) if texts else torch.zeros(0, len(self.centre))


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
