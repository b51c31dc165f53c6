"""Average precision against scikit-learn and against plain loops, with many ties."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_evaluation import average_precision_by_loops, cosine
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from tripletcl.data import read_table
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN, PairLabels
from tripletcl.errors import UserError
from tripletcl.evaluation import average_precision, average_precision_of, mean_average_precision

precision = import_module("tripletcl.evaluation.average_precision")  # the package has a function of this name

devices = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@st.composite
def galleries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores `[N, F]` out of few values, so that most are tied, and any relevance."""
    shape = draw(st.tuples(st.integers(1, 25), st.integers(1, 5)))
    values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 2.0, math.inf])
    return draw(arrays(np.float64, shape, elements=values)), draw(arrays(np.bool_, shape))


@pytest.mark.parametrize("device", devices)
@settings(max_examples=150, deadline=None)
@given(gallery=galleries(), block=st.integers(1, 6))
def test_equals_plain_loops_and_sklearn_under_heavy_ties(
    device: str, gallery: tuple[np.ndarray, np.ndarray], block: int
) -> None:
    scores, relevant = gallery
    ap = average_precision(torch.from_numpy(scores).to(device), torch.from_numpy(relevant).to(device), block).cpu()
    for fact in range(scores.shape[1]):
        expected = average_precision_by_loops(scores[:, fact].tolist(), relevant[:, fact].tolist())
        assert ap[fact].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
        if relevant[:, fact].any() and not relevant[:, fact].all() and np.isfinite(scores[:, fact]).all():
            theirs = average_precision_score(relevant[:, fact], scores[:, fact])
            assert ap[fact].item() == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_number_type_of_scores(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-4, 5, (40, 3), generator=generator)
    relevant = torch.rand(40, 3, generator=generator) < 0.3
    expected = [average_precision_score(relevant[:, f], scores[:, f]) for f in range(3)]
    assert average_precision(scores.to(dtype), relevant).tolist() == pytest.approx(expected)


@st.composite
def tied_galleries(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of any number type and memory order; facts relevant to no, some or all images."""
    images, facts = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([torch.float16, torch.float32, torch.float64]))
    values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 2.0, math.inf])
    scores = torch.from_numpy(draw(arrays(np.float64, (images, facts), elements=values))).to(dtype)
    marks = st.one_of(st.just(False), st.just(True), st.booleans())
    relevant = torch.tensor([draw(st.lists(marks, min_size=images, max_size=images)) for _ in range(facts)]).T
    if draw(st.booleans()):
        relevant[:, 0] = draw(st.booleans())
    if draw(st.booleans()):
        return scores.T.contiguous().T, relevant
    return scores, relevant.contiguous()


@pytest.mark.parametrize("sort", [10**9, -1], ids=["by counting", "by sorting"])
def test_counting_and_sorting_equal_plain_loops_and_leave_the_scores(
    sort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "SORT", sort)
    monkeypatch.setattr(precision, "TILE", 3)

    @settings(max_examples=100, deadline=None)
    @given(gallery=tied_galleries(), block=st.integers(1, 5))
    def check(gallery: tuple[torch.Tensor, torch.Tensor], block: int) -> None:
        scores, relevant = gallery
        columns = zip(scores.T.tolist(), relevant.T.tolist(), strict=True)
        expected = [average_precision_by_loops(s, r) for s, r in columns]
        before = scores.clone()
        assert average_precision(scores, relevant, block).tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert torch.equal(scores, before)

    check()


def test_long_galleries_of_few_and_of_many_relevant_images_equal_sklearn() -> None:
    """The scores of the first facts are tied, those of the last are distinct."""
    rng = np.random.default_rng(0)
    shares = np.array([0, 1 / 40_000, 5e-4, 0.02, 0.9, 1])
    relevant = rng.random((40_000, len(shares))) < shares
    relevant[0, 1:], relevant[1] = True, False
    for spread in (0.0, 3.0):  # relevant images among the others, and above most of them
        scores = rng.standard_normal(relevant.shape).astype(np.float32) + np.float32(spread) * relevant
        scores[:, :3] = scores[:, :3].round(1)
        expected = [average_precision_score(relevant[:, f], scores[:, f]) for f in range(1, len(shares))]
        ap = average_precision(torch.from_numpy(scores), torch.from_numpy(relevant))
        assert ap[0].isnan()
        assert ap[1:].tolist() == pytest.approx(expected, abs=1e-12)


def test_collapsed_scores_are_chance() -> None:
    relevant = torch.arange(100)[:, None] < torch.tensor([1, 17, 99])
    assert average_precision(torch.zeros(100, 3), relevant).tolist() == pytest.approx([0.01, 0.17, 0.99])


@pytest.mark.parametrize("images", [2, 3, 5, 7, 13, 17, 33, 100, 1001])
def test_a_collapsed_embedding_is_chance_whatever_the_rounding_of_a_row(images: int) -> None:
    """In float32 the last rows of a matrix product may differ from the first in their last bit."""
    generator = torch.Generator().manual_seed(images)
    one = torch.randn(1, 3, 50, generator=generator)
    facts = torch.randn(33, 3, 50, generator=generator)
    relevant = torch.rand(images, 33, generator=generator) < 0.2
    relevant[0], relevant[1] = True, False
    chance = relevant.double().mean(dim=0)
    ap = average_precision_of(one.expand(images, 3, 50).clone(), facts, relevant)
    assert ap.tolist() == pytest.approx(chance.tolist(), rel=1e-12)


def test_a_perfect_ranking_is_one_and_the_worst_is_the_worst() -> None:
    relevant = torch.tensor([[True], [True], [False], [False]])
    scores = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    assert average_precision(scores, relevant).item() == 1
    assert average_precision(-scores, relevant).item() == pytest.approx((1 / 3 + 2 / 4) / 2)


@settings(max_examples=50, deadline=None)
@given(gallery=galleries(), data=st.data())
def test_the_order_of_images_and_a_monotone_map_of_scores_change_nothing(
    gallery: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    scores, relevant = map(torch.from_numpy, gallery)
    shuffle = torch.tensor(data.draw(st.permutations(range(len(scores)))))
    ap = average_precision(scores, relevant)
    torch.testing.assert_close(average_precision(scores[shuffle], relevant[shuffle]), ap, equal_nan=True)
    torch.testing.assert_close(average_precision((scores / 3).tanh() * 5 + 1, relevant), ap, equal_nan=True)


def test_an_image_of_two_facts_is_a_hit_for_both() -> None:
    relevant = torch.tensor([[True, True], [False, True], [False, False]])
    scores = torch.tensor([[0.9, 0.9], [0.1, 0.8], [0.0, 0.0]])
    assert average_precision(scores, relevant).tolist() == [1, 1]


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("block", [1, 5, 64])
def test_scores_made_block_by_block_are_the_cosine_sums(device: str, block: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(30, 3, 8, generator=generator)
    facts = torch.randn(12, 3, 8, generator=generator)
    facts[3, 1:] = 0  # order 1
    facts[4, 2] = 0  # order 2
    relevant = torch.rand(30, 12, generator=generator) < 0.25
    units = [[u for u in range(3) if fact[u].any()] for fact in facts]
    expected = [
        average_precision_by_loops(
            [sum(cosine(image[u].tolist(), fact[u].tolist()) for u in units[f]) for image in images],
            relevant[:, f].tolist(),
        )
        for f, fact in enumerate(facts)
    ]
    ap = average_precision_of(images.to(device), facts.to(device), relevant.to(device), block).cpu()
    assert ap.tolist() == pytest.approx(expected, nan_ok=True)


def test_map_leaves_out_facts_without_images_and_refuses_a_gallery_without_any() -> None:
    relevant = torch.tensor([[True, False], [False, False]])
    ap = average_precision(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), relevant)
    assert ap[0] == 0.5
    assert ap[1].isnan()
    assert mean_average_precision(ap) == 0.5
    with pytest.raises(UserError, match="none of the 1 facts"):
        mean_average_precision(ap[1:])


def test_a_gallery_of_relevant_images_only_has_no_average_precision() -> None:
    relevant = torch.tensor([[True, True], [True, False]])
    ap = average_precision(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), relevant)
    assert ap.isnan().tolist() == [True, False]
    assert mean_average_precision(ap) == 0.5


def test_an_empty_gallery_has_no_average_precision() -> None:
    empty = torch.zeros(0, 3)
    assert average_precision(empty, empty.bool()).isnan().tolist() == [True] * 3
    assert average_precision(torch.zeros(4, 2), torch.zeros(4, 2).bool()).isnan().all()


def test_nan_scores_are_refused() -> None:
    for is_relevant in (True, False):
        with pytest.raises(UserError, match="NaN"):
            average_precision(torch.tensor([[0.1], [math.nan]]), torch.tensor([[is_relevant], [False]]))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got scores \[3, 2\] and relevant \[2, 3\]"):
        average_precision(torch.zeros(3, 2), torch.zeros(2, 3).bool())
    with pytest.raises(ValueError, match="relevant bool"):
        average_precision(torch.zeros(3, 2), torch.zeros(3, 2))


def test_the_relevance_of_real_photographs(data_root: Path) -> None:
    """2,556 test photographs x 166 facts, most shown by few photographs, some photographs showing several."""
    table = read_table(data_root / "facts" / "facts.csv")
    gallery = np.unique(table.rows_of("test")[:, 0])
    relevant = table.relevance("test", gallery, np.arange(len(table.facts))).toarray()
    scores = np.random.default_rng(0).integers(0, 50, relevant.shape).astype(np.float32)
    ap = average_precision(torch.from_numpy(scores), torch.from_numpy(relevant))
    theirs = [average_precision_score(relevant[:, f], scores[:, f]) for f in range(len(table.facts))]
    assert relevant.shape == (2556, 166)
    assert relevant.sum(axis=1).max() > 1
    assert ap.tolist() == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), block=st.integers(1, 4))
def test_pairs_that_are_not_known_are_left_out_of_their_fact(data: st.DataObject, block: int) -> None:
    images, facts = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    places = data.draw(arrays(np.int64, images + facts, elements=st.integers(0, 2)))
    vectors = torch.eye(3)[torch.from_numpy(places)][:, None]  # [N + F, 1, 3]: most scores are tied
    labelled = data.draw(arrays(np.int64, (images, facts), elements=st.sampled_from([0, NOT_SHOWN, UNKNOWN, SHOWN])))
    relevant = torch.from_numpy(labelled == SHOWN)
    labels = PairLabels(np.argwhere(labelled), labelled[labelled > 0].astype(np.int8), labelled.shape)
    ap = average_precision_of(vectors[:images], vectors[images:], relevant, block, labels)
    sparse = csr_array(relevant.numpy())
    same = average_precision_of(vectors[:images], vectors[images:], sparse, block, labels)
    assert np.array_equal(same.numpy(), ap.numpy(), equal_nan=True)
    for fact, value in enumerate(ap.tolist()):
        verified = (labelled[:, fact] == NOT_SHOWN).any()
        kept = torch.from_numpy((labelled[:, fact] != UNKNOWN) & ((labelled[:, fact] > 0) | (not verified)))
        assert labels.count_known()[fact] == kept.sum()
        alone = average_precision_of(vectors[:images][kept], vectors[[images + fact]], relevant[kept][:, [fact]])
        assert value == pytest.approx(alone.item(), nan_ok=True)
