"""Measures what ten lessons give, and what they take from the base's words (docs/measured/teaching.md).

    TRIPLETCL_DATA=... python benchmarks/lessons.py --features runs/features

Teaches the model of `tripletcl photos` ten facts of TRIPLETCL_DATA/facts, each by ten training photographs of which
eight are learned from, one lesson after another; the test photographs are the index. Asks them for every subject and
object as a word, before and after: for those that are no unit of a taught fact, and for those that are; and for the
taught facts. Prints the means of the average precisions over several groups of facts, and the largest loss of a group.
"""

from __future__ import annotations

import numpy as np
import torch
from collection import Lessons, Photos, both_splits, new_model, parser, read_facts, scores
from torch import Tensor

from tripletcl.data import FactTable
from tripletcl.embedding import FactEmbedder
from tripletcl.evaluation import average_precision
from tripletcl.retrieval import Query

GROUPS, FACTS, LEARNED = 10, 10, 8
FEWEST = 8
"""Photographs of a split that a fact to be taught needs."""


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    table, embedder = read_facts(options.data), new_model()
    photos, tests = both_splits(embedder, table, options)
    words = {query: shown for query, shown in words_of(table, tests).items() if shown.any()}
    facts = [n for n in range(len(table.facts)) if min(photos.shown[:, n].sum(), tests.shown[:, n].sum()) >= FEWEST]
    teacher, rows = Lessons(embedder, tests), []
    for seed in range(GROUPS):
        generator = np.random.default_rng(seed)
        some = generator.permutation(facts)[:FACTS].tolist()
        wanted = {Query(*table.facts[fact].units): tests.shown[:, fact] for fact in some}
        forget(embedder)
        before = measure(embedder, tests.features, words | wanted)
        picks = [generator.permutation(photos.shown[:, fact].nonzero()[:, 0].numpy())[:LEARNED] for fact in some]
        teacher.teach([table.facts[fact] for fact in some], [photos.part(torch.from_numpy(each)) for each in picks])
        after = measure(embedder, tests.features, words | wanted)
        units = {unit for fact in some for unit in table.facts[fact].units if unit is not None}
        known = [query for query in words if units & {query.subject, query.object}]
        others = [query for query in words if query not in known]
        parts = [list(others), list(known), list(wanted)]
        rows.append([np.mean([each[query] for query in part]) for part in parts for each in (before, after)])
    print("| asked for | before | after | largest loss |\n| --- | --- | --- | --- |")
    for number, name in enumerate(("words that were not taught", "words of taught facts", "the taught facts")):
        old, new = (np.array(rows)[:, 2 * number + each] for each in (0, 1))
        print(f"| {name} | {old.mean():.4f} | {new.mean():.4f} | {max(0.0, (old - new).max()):.4f} |")


def words_of(table: FactTable, tests: Photos) -> dict[Query, Tensor]:
    """Each subject and object of the table as a query, and the photographs that show it, `[N]` bool."""
    words = {}
    for number, unit in ((0, "subject"), (2, "object")):
        for text in table.units(number):
            columns = torch.tensor([fact.units[number] == text for fact in table.facts])
            words[Query(**{unit: text})] = tests.shown[:, columns].any(dim=1)
    return words


def forget(embedder: FactEmbedder) -> None:
    """Be as before any lesson."""
    assert embedder.image.analytic is not None
    embedder.facts, embedder.levels = (), ()
    embedder.image.analytic.solve(torch.zeros(embedder.image.analytic.width, 0), torch.zeros(0, 3, embedder.spec.width))


def measure(embedder: FactEmbedder, features: Tensor, queries: dict[Query, Tensor]) -> dict[Query, float]:
    """The average precision of each query."""
    ranked = scores(embedder.texts, embedder.vectors_of(features), list(queries))
    found = average_precision(ranked, torch.stack(list(queries.values()), dim=1))
    return dict(zip(queries, found.tolist(), strict=True))


if __name__ == "__main__":
    main()
