"""What a run finds at a stage, against the plain way and against the figures of the run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tripletcl.errors import UserError
from tripletcl.evaluation import cosine_sums, unit_blocks
from tripletcl.retrieval import Query, Request
from tripletcl.retrieval.request import Term
from tripletcl.web.asking import ap_over_stages, ask, examples, remarks, truth, understood
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.galleries import TestImages


def request_of(*units: str | None) -> Request:
    return Request((Term(Query(*units)),))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_photos_are_ranked_as_the_vectors_of_the_stage_say(exhibit: Exhibit, stage: int) -> None:
    gallery, run = exhibit.galleries["test"], exhibit.main
    number = max(range(len(run.table.facts)), key=lambda fact: run.table.facts[fact].order)
    found = ask(gallery, run, stage, request_of(*run.table.facts[number].units), k=5)
    vectors = run.run.vectors(stage)
    scores = cosine_sums(unit_blocks(vectors["images"]), unit_blocks(vectors["facts"][[number]]))[:, 0].numpy()
    best = np.sort(scores)[::-1][:5]
    assert found is not None
    assert [tile.score for tile in found.tiles] == pytest.approx(best.tolist(), abs=1e-5)
    row = {run.table.paths[image]: row for row, image in enumerate(vectors["image_ids"].tolist())}
    for tile in found.tiles:
        assert scores[row[gallery.path(tile.number)]] == pytest.approx(tile.score, abs=1e-5)
        assert tile.right == (run.table.facts[number] in gallery.labels(tile.number))


def test_ap_is_that_of_the_run(exhibit: Exhibit) -> None:
    """A fact of three units is asked for by the page as by the evaluation."""
    for shown in (exhibit.main, *exhibit.others.values()):
        result = shown.result
        assert result is not None
        recorded = dict(result.ap)
        for fact in shown.table.facts:
            if fact.order == 3 and str(fact) in recorded:
                found = ask(exhibit.galleries["test"], shown, 2, request_of(*fact.units), k=3)
                assert found is not None
                assert found.ap == pytest.approx(recorded[str(fact)], abs=1e-5)


def test_a_readouts_own_scores_count_as_where_map_is_measured(exhibit: Exhibit) -> None:
    run = exhibit.main
    gallery = TestImages(run)
    fact = next(number for number, fact in enumerate(run.table.facts) if fact.order == 2)
    seen = gallery.seen(run, 2)
    closed = torch.zeros(len(seen.numbers), len(run.table.facts))
    closed[-1, fact] = 9.0
    gallery._seen.kept[run.model(2).key] = dataclasses.replace(seen, closed=closed)
    found = ask(gallery, run, 2, request_of(*run.table.facts[fact].units), k=1)
    assert found is not None
    assert found.tiles[0].number == seen.numbers[-1]
    assert found.tiles[0].score > 2 * 9.0 - 2
    wider = ask(gallery, run, 2, request_of(run.table.facts[fact].subject), k=1)
    assert wider is not None
    assert wider.tiles[0].score <= 1, "a query of another shape has no score of its own"


def test_truth_of_wildcards_and_of_what_is_excluded(exhibit: Exhibit) -> None:
    gallery = exhibit.galleries["test"]
    fact = next(fact for fact in exhibit.main.table.facts if fact.order == 3)
    whole, subject = (truth(gallery, request_of(*units)) for units in (fact.units, (fact.subject,)))
    assert whole is not None
    assert subject is not None
    assert 0 < whole.sum() <= subject.sum() < len(gallery)
    assert not (whole & ~subject).any()
    without = truth(gallery, Request((Term(Query(fact.subject)), Term(Query(*fact.units), excluded=True))))
    assert without is not None
    assert (without == (subject & ~whole)).all()
    assert truth(gallery, request_of("no such thing")) is None


def test_what_is_not_labelled_has_no_truth_and_no_curve(exhibit: Exhibit) -> None:
    gallery = exhibit.galleries["test"]
    found = ask(gallery, exhibit.main, 2, request_of("zebra"), k=4)
    assert found is not None
    assert [tile.right for tile in found.tiles] == [None] * 4
    assert found.ap is None
    assert ap_over_stages(gallery, exhibit.main, request_of("zebra")) is None


def test_ap_over_the_stages(exhibit: Exhibit) -> None:
    fact = examples(exhibit.main.table, exhibit.groups)[0]
    gallery = exhibit.galleries["test"]
    aps = ap_over_stages(gallery, exhibit.main, request_of(*fact.units))
    assert aps is not None
    assert len(aps) == 3
    assert all(0 <= ap <= 1 for ap in aps)
    found = ask(gallery, exhibit.main, 1, request_of(*fact.units), k=1)
    assert found is not None
    assert found.ap == aps[1]


def test_remarks_tell_what_comes_later_from_what_never_comes(exhibit: Exhibit) -> None:
    run = exhibit.main
    before, after = run.model(1).vocabulary, run.model(2).vocabulary
    unit = next(unit for unit in range(3) if set(after[unit]) - set(before[unit]))
    units = [None, None, None]
    units[unit] = next(word for word in after[unit] if word not in before[unit])
    assert "comes in a later task as" in remarks(run, 1, request_of(*units))[0]
    assert remarks(run, 2, request_of(*units)) == []
    assert "was never trained as an object" in remarks(run, 2, request_of("?", "?", "zebra"))[0]
    assert "by chance" in remarks(run, 0, request_of(*units))[0]


def test_units_and_lines_are_understood(exhibit: Exhibit) -> None:
    model = exhibit.main.model(2)
    subject = next(fact.subject for fact in model.facts if fact.subject.isalpha())
    asked = understood([subject, "?", None], model)
    assert asked == request_of(subject)
    assert understood([f"{subject}, ?, ?"], model) == asked
    assert [term.excluded for term in understood([f"{subject}, ?, ? - ?, flying, ?"], model).terms] == [False, True]
    with pytest.raises(UserError):
        understood(["?", "", None], model)
    with pytest.raises(UserError):
        understood(["   "], model)


def test_examples_are_of_each_task_in_turn(exhibit: Exhibit) -> None:
    chosen = examples(exhibit.main.table, exhibit.groups)
    assert len(chosen) == 2
    for fact, group in zip(chosen, exhibit.groups, strict=True):
        facts = [exhibit.main.table.facts[number] for number in group]
        assert fact in facts
        assert fact.order == max(other.order for other in facts)
