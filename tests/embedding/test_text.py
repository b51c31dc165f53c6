"""Texts to vectors: the bundled encoder, the cache, the centre, the trained map."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tripletcl.embedding import TextBranch, WordVectors, build_text_encoder
from tripletcl.embedding.minilm import MiniLM
from tripletcl.embedding.published import minilm_folder
from tripletcl.embedding.text_encoders import States, TransformerEncoder
from tripletcl.embedding.words import check_words, words_alike
from tripletcl.errors import UserError

TEXTS = ["dog", "person", "riding a horse"]


class Letters:
    """Counts letters, and records the texts."""

    width = 26

    def __init__(self) -> None:
        self.texts_seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.texts_seen += texts
        rows = [[float(text.count(chr(97 + i))) for i in range(26)] for text in texts]
        return torch.tensor(rows).reshape(len(texts), 26)


def test_words_of_one_vector_are_named_and_refused_if_they_are_more_than_a_few(
    minilm: MiniLM, caplog: pytest.LogCaptureFixture
) -> None:
    known, animals = [f"word{number}" for number in range(20)], ["\u732b", "\u0e41\u0e21\u0e27", "\u0e2b\u0e21\u0e32"]
    assert words_alike(minilm.encode, ["dog", *animals, "A\u00f1o", "ano", "dog"]) == [animals, ["A\u00f1o", "ano"]]
    check_words(minilm.encode, known)
    assert caplog.messages == []
    check_words(minilm.encode, ["A\u00f1o", "ano", "ano", *known])
    (message,) = caplog.messages
    assert message.startswith(
        "the text encoder cannot tell 1 of 22 words from another one, as 'A\u00f1o', 'ano'; these"
    )
    with pytest.raises(UserError, match=r"tell 2 of 23 words from another one, .*: translate them, or set model"):
        check_words(minilm.encode, [*animals, *known])


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    encoder = build_text_encoder("minilm")
    assert isinstance(encoder, MiniLM)
    return encoder


def test_minilm_gives_the_vectors_of_sentence_transformers(minilm: MiniLM) -> None:
    """The figures come from sentence-transformers 6.2 on the same weights."""
    vectors = TextBranch(minilm)(TEXTS)
    assert vectors.shape == (3, 384)
    first = [[-0.053147, 0.014194, 0.007146], [-0.113060, 0.026326, -0.049439], [0.005808, 0.007203, 0.015777]]
    cosines = [[1.0, 0.406102, 0.332235], [0.406102, 1.0, 0.188370], [0.332235, 0.188370, 1.0]]
    assert torch.allclose(vectors[:, :3], torch.tensor(first), atol=2e-6)
    assert torch.allclose(vectors @ vectors.T, torch.tensor(cosines), atol=2e-6)


def test_minilm_equals_mean_pooling_of_a_padded_batch(minilm: MiniLM) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(minilm_folder())(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(minilm_folder()).eval()(**tokens).last_hidden_state
    assert hidden.shape[-1] == minilm.width
    lengths = tokens["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 1
    expected = torch.stack([states[:length].mean(0) for states, length in zip(hidden, lengths, strict=True)])
    np.testing.assert_allclose(minilm.encode(TEXTS), expected, atol=1e-5)


def test_a_texts_vector_does_not_depend_on_the_others(minilm: MiniLM) -> None:
    assert np.array_equal(minilm.encode(["dog"])[0], minilm.encode(["person on a very long bench", "dog"])[1])


def test_related_words_have_similar_vectors(minilm: MiniLM) -> None:
    dog, puppy, carburettor = TextBranch(minilm)(["dog", "puppy", "carburettor"])
    assert dog @ puppy > 0.7 > 0.4 > dog @ carburettor


def test_loading_shows_no_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    TransformerEncoder(str(minilm_folder()), States(), 384).encode(["dog"])
    out, err = capfd.readouterr()
    assert out + err == ""


def test_each_text_is_encoded_once() -> None:
    encoder = Letters()
    branch = TextBranch(encoder)
    once = branch(["cab", "dog", "cab"])
    assert encoder.texts_seen == ["cab", "dog"]
    again = branch(["dog", "egg"])
    assert encoder.texts_seen == ["cab", "dog", "egg"]
    assert torch.equal(once[1], again[0])
    assert torch.equal(once[0], once[2])
    assert branch([]).shape == (0, 26)


def test_the_centre_is_subtracted_before_the_length_becomes_1() -> None:
    encoder = Letters()
    branch = TextBranch(encoder)
    branch.set_centre(["aa", "ab", "bc"])
    raw = encoder.encode(["aa", "cab"])
    centre = encoder.encode(["aa", "ab", "bc"]).mean(0)
    expected = (raw - centre) / (raw - centre).norm(dim=1, keepdim=True)
    assert torch.allclose(branch(["aa", "cab"]), expected, atol=1e-6)
    assert torch.allclose(TextBranch(encoder)(["aa"]), raw[:1] / 2)
    assert torch.equal(TextBranch(encoder, normalise=False)(["aa"]), raw[:1])


def test_the_centre_is_set_once_and_saved() -> None:
    branch = TextBranch(Letters())
    with pytest.raises(UserError, match="two distinct texts"):
        branch.set_centre(["dog", "dog"])
    branch.set_centre(["dog", "cat"])
    with pytest.raises(UserError, match="set already"):
        branch.set_centre(["dog", "egg"])
    other = TextBranch(Letters())
    other.load_state_dict(branch.state_dict())
    assert torch.equal(other(["egg"]), branch(["egg"]))
    assert list(branch.state_dict()) == ["centre"]


def test_the_projection_is_trained_and_the_encoder_is_not() -> None:
    branch = TextBranch(Letters(), projection=4)
    vectors = branch(["dog", "cat"])
    assert vectors.shape == (2, branch.width) == (2, 4)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    vectors[:, 0].sum().backward()
    assert branch.projection is not None
    assert branch.projection.weight.grad.any()
    assert {name for name, _ in branch.named_parameters()} == {"projection.weight", "projection.bias"}
    assert torch.equal(branch.project(branch.encode(["dog"])), branch(["dog"]))


def test_minilm_is_not_in_the_state_and_not_copied(minilm: MiniLM) -> None:
    branch = TextBranch(minilm)
    assert list(branch.parameters()) == []
    assert list(branch.state_dict()) == ["centre"]
    assert copy.deepcopy(branch).encoder is minilm


def test_encoders_by_name(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("dog 1 2\ncat 3 4\n")
    assert isinstance(build_text_encoder(str(tmp_path / "v.txt")), WordVectors)
    folder = build_text_encoder(str(minilm_folder()))
    assert isinstance(folder, TransformerEncoder)
    assert folder.width == 384
    with pytest.raises(UserError, match=r"no file of word vectors .*missing\.txt"):
        build_text_encoder(str(tmp_path / "missing.txt"))
    with pytest.raises(UserError, match=r"no text encoder 'nobody/nothing'"):
        build_text_encoder("nobody/nothing")
    with pytest.raises(UserError, match=r"no text encoder"):
        build_text_encoder(str(tmp_path))


def test_stored_vectors_are_not_computed_again(tmp_path: Path) -> None:
    class Counting:
        width = 4
        texts_seen: ClassVar[list[str]] = []

        def encode(self, texts: Sequence[str]) -> torch.Tensor:
            self.texts_seen.extend(texts)
            return torch.tensor([[float(len(text)), 1.0, 2.0, 3.0] for text in texts]).reshape(len(texts), 4)

    first, second = TextBranch(Counting()), TextBranch(Counting())
    vectors = first(["dog", "black, bird\n"])
    first.vectors.save(tmp_path / "texts")
    for name in ("texts", "missing"):
        second.vectors.load(tmp_path / name)
    (tmp_path / "damaged").write_bytes(b"no")
    second.vectors.load(tmp_path / "damaged")
    assert torch.equal(second(["black, bird\n", "dog"]), vectors.flip(0))
    assert Counting.texts_seen == ["dog", "black, bird\n"]
    written = (tmp_path / "texts").stat().st_mtime_ns
    second.vectors.save(tmp_path / "texts")
    assert (tmp_path / "texts").stat().st_mtime_ns == written  # the file has them all


def test_texts_are_encoded_once_for_all_runs_with_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_text_encoder("minilm")
    asked: list[str] = []
    encode = MiniLM.encode
    monkeypatch.setattr(MiniLM, "encode", lambda self, texts: asked.extend(texts) or encode(self, texts))
    branches = [TextBranch(encoder) for _ in range(3)]
    for branch in branches[:2]:
        branch.vectors.cache_in(tmp_path / "cache")
    alone = branches[2].encode(["dog", "cat"])
    assert torch.equal(branches[0].encode(["dog"]), alone[:1])
    assert torch.equal(branches[1].encode(["cat", "dog"]), alone.flip(0))
    assert asked == ["dog", "cat", "dog", "cat"]
    (file,) = (tmp_path / "cache").iterdir()
    assert encoder.fingerprint in file.name
    branches[1].vectors.save(tmp_path / "own")
    file.write_bytes(b"damaged")
    branches[0].encode(["cat"])
    assert asked[4:] == ["cat"]
