"""The photos that a run finds at a stage, against a plain ranking and the figures of the run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tripletcl.compare.write import example_facts
from tripletcl.errors import UserError
from tripletcl.evaluation import cosine_sums, unit_blocks
from tripletcl.retrieval import Query, Request
from tripletcl.retrieval.request import Term
from tripletcl.web.galleries import TestImages
from tripletcl.web.search import ap_by_stage, read_request, relevance, remarks, search
from tripletcl.web.state import AppState


def request_of(*units: str | None) -> Request:
    return Request((Term(Query(*units)),))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_photos_are_ranked_as_the_vectors_of_the_stage_say(state: AppState, stage: int) -> None:
    gallery, run = state.galleries["test"], state.main
    number = max(range(len(run.table.facts)), key=lambda fact: run.table.facts[fact].order)
    answer = search(gallery, run, stage, request_of(*run.table.facts[number].units), k=5)
    vectors = run.run.vectors(stage)
    scores = cosine_sums(unit_blocks(vectors["images"]), unit_blocks(vectors["facts"][[number]]))[:, 0].numpy()
    best = np.sort(scores)[::-1][:5]
    assert answer is not None
    assert [tile.score for tile in answer.tiles] == pytest.approx(best.tolist(), abs=1e-5)
    row = {run.table.paths[image]: row for row, image in enumerate(vectors["image_ids"].tolist())}
    for tile in answer.tiles:
        assert scores[row[gallery.paths[tile.number]]] == pytest.approx(tile.score, abs=1e-5)
        assert tile.right == (run.table.facts[number] in gallery.labels(tile.number))


def test_ap_is_that_of_the_run(state: AppState) -> None:
    """A fact of three units is asked for by the page as by the evaluation."""
    for view in (state.main, *state.others.values()):
        result = view.result
        assert result is not None
        recorded = dict(result.ap)
        for fact in view.table.facts:
            if fact.order == 3 and str(fact) in recorded:
                answer = search(state.galleries["test"], view, 2, request_of(*fact.units), k=3)
                assert answer is not None
                assert answer.ap == pytest.approx(recorded[str(fact)], abs=1e-5)


def test_a_closed_readouts_scores_count_as_in_the_measured_map(
    state: AppState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = state.main
    gallery = TestImages(run)
    fact = next(number for number, fact in enumerate(run.table.facts) if fact.order == 2)
    photos = gallery.embedded(run, 2)
    closed = torch.zeros(len(photos.numbers), len(run.table.facts))
    closed[-1, fact] = 9.0
    closed_photos = dataclasses.replace(photos, closed=closed)
    monkeypatch.setattr(gallery, "embedded", lambda view, stage: closed_photos)
    answer = search(gallery, run, 2, request_of(*run.table.facts[fact].units), k=1)
    assert answer is not None
    assert answer.tiles[0].number == photos.numbers[-1]
    assert answer.tiles[0].score > 2 * 9.0 - 2
    wider = search(gallery, run, 2, request_of(run.table.facts[fact].subject), k=1)
    assert wider is not None
    assert wider.tiles[0].score <= 1, "a query of another shape has no score of its own"


def test_labels_of_wildcards_and_of_excluded_terms(state: AppState) -> None:
    gallery = state.galleries["test"]
    fact = next(fact for fact in state.main.table.facts if fact.order == 3)
    whole, subject = (relevance(gallery, request_of(*units)) for units in (fact.units, (fact.subject,)))
    assert whole is not None
    assert subject is not None
    assert 0 < whole.sum() <= subject.sum() < len(gallery)
    assert not (whole & ~subject).any()
    without = relevance(gallery, Request((Term(Query(fact.subject)), Term(Query(*fact.units), excluded=True))))
    assert without is not None
    assert (without == (subject & ~whole)).all()
    assert relevance(gallery, request_of("no such thing")) is None


def test_what_has_no_label_is_neither_right_nor_wrong_and_has_no_curve(state: AppState) -> None:
    gallery = state.galleries["test"]
    answer = search(gallery, state.main, 2, request_of("zebra"), k=4)
    assert answer is not None
    assert [tile.right for tile in answer.tiles] == [None] * 4
    assert answer.ap is None
    assert ap_by_stage(gallery, state.main, request_of("zebra")) is None


def test_ap_over_the_stages(state: AppState) -> None:
    fact = next(fact for fact in state.main.table.facts if fact.order == 3)
    gallery = state.galleries["test"]
    aps = ap_by_stage(gallery, state.main, request_of(*fact.units))
    assert aps is not None
    assert len(aps) == 3
    assert all(0 <= ap <= 1 for ap in aps)
    answer = search(gallery, state.main, 1, request_of(*fact.units), k=1)
    assert answer is not None
    assert answer.ap == aps[1]


def test_remarks_distinguish_later_words_from_unknown_ones(state: AppState) -> None:
    run = state.main
    before, after = run.model(1).vocabulary, run.model(2).vocabulary
    unit = next(unit for unit in range(3) if set(after[unit]) - set(before[unit]))
    units = [None, None, None]
    units[unit] = next(word for word in after[unit] if word not in before[unit])
    assert "comes in a later task as" in remarks(run, 1, request_of(*units))[0]
    assert remarks(run, 2, request_of(*units)) == []
    assert "was never trained as an object" in remarks(run, 2, request_of("?", "?", "zebra"))[0]
    assert "by chance" in remarks(run, 0, request_of(*units))[0]


def test_units_and_lines_are_read_as_requests(state: AppState) -> None:
    model = state.main.model(2)
    subject = next(fact.subject for fact in model.facts if fact.subject.isalpha())
    request = read_request([subject, "?", None], model)
    assert request == request_of(subject)
    assert read_request([f"{subject}, ?, ?"], model) == request
    assert [term.excluded for term in read_request([f"{subject}, ?, ? - ?, flying, ?"], model).terms] == [False, True]
    with pytest.raises(UserError):
        read_request(["?", "", None], model)
    with pytest.raises(UserError):
        read_request(["   "], model)


def test_each_task_has_an_example_with_most_units(state: AppState) -> None:
    facts = state.main.table.facts
    examples = example_facts(state.main.table, state.groups)
    assert len(examples) == 2
    for example, group in zip(examples, state.groups, strict=True):
        assert example in group
        assert facts[example].order == max(facts[fact].order for fact in group)
