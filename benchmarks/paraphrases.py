"""Measures how well facts are found by other words than those that they were taught in (docs/measured/paraphrases.md).

    TRIPLETCL_DATA=... python benchmarks/paraphrases.py --features runs/features

Teaches the model of `tripletcl photos` all facts of TRIPLETCL_DATA/facts by the training photographs, and asks the test
photographs for each fact in its own words and in four other wordings made by rule (`wordings.py`). Prints for each
wording the MAP over the facts that have it, that of their own words, and the ratio; and the MAP of their own words by
the sum of the cosines of their units. The features are computed once.
"""

from __future__ import annotations

import numpy as np
import torch
from collection import Photos, both_splits, new_model, parser, read_facts, scores, teach_table
from torch import Tensor
from wordings import wordings

from tripletcl.data import Fact
from tripletcl.embedding import TextEmbedder
from tripletcl.evaluation import average_precision
from tripletcl.retrieval import Query, parse_request

OWN = "own words"


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    table, embedder = read_facts(options.data), new_model()
    photos, tests = both_splits(embedder, table, options)
    teach_table(embedder, photos, table.facts)
    vectors = embedder.vectors_of(tests.features)
    found = measure(embedder.texts, vectors, tests, table.facts)
    print("| wording | facts | MAP | in their own words | ratio |\n| --- | --- | --- | --- | --- |")
    for name in dict.fromkeys(name for name, _ in found):
        facts = [fact for each, fact in found if each == name]
        other, own = (np.mean([found[each, fact] for fact in facts]) for each in (name, OWN))
        print(f"| {name} | {len(facts)} | {other:.3f} | {own:.3f} | {other / own:.2f} |", flush=True)
    by_units = torch.einsum("nud,fud->nf", vectors, embedder.encode_facts(table.facts)[0])
    shown = tests.shown.any(dim=0)
    cosines = average_precision(by_units[:, shown], tests.shown[:, shown]).mean()
    print(f"\nown words, by the sum of the cosines of their units: {float(cosines):.3f}")


def measure(
    embedder: TextEmbedder, vectors: Tensor, tests: Photos, facts: tuple[Fact, ...]
) -> dict[tuple[str, Fact], float]:
    """The AP of each wording of each fact that some photograph shows."""
    known, found = embedder.known_facts, {}
    for number, fact in enumerate(facts):
        if not (truth := tests.shown[:, [number]]).any():
            continue
        for name, words in {OWN: " ".join(filter(None, fact.units)), **wordings(fact)}.items():
            queries = [term.wanted for term in parse_request(words, known).terms]
            ranked = scores(embedder, vectors, [query for query in queries if isinstance(query, Query)]).sum(dim=1)
            found[name, fact] = float(average_precision(ranked[:, None], truth))
    return found


if __name__ == "__main__":
    main()
