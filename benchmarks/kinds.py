"""Measures how well taught facts are found by the kinds of things (docs/measured/paraphrases.md).

    TRIPLETCL_DATA=... python benchmarks/kinds.py --features runs/features

Teaches the model of `tripletcl photos` all facts of TRIPLETCL_DATA/facts by the training photographs, and asks the test
photographs for nouns that were not taught, a word each: those that name a taught thing or a narrower one, which is
right where a photo shows the taught thing, and the broader ones of several taught things, which are right where a photo
shows one of these. Prints the MAP of each group with and without the kinds of things, and that of the taught nouns.
"""

from __future__ import annotations

import random
from unittest.mock import patch

import torch
from collection import both_splits, new_model, parser, read_facts, scores, teach_table
from lessons import words_of
from torch import Tensor

from tripletcl.data import nouns
from tripletcl.data.nouns import all_nouns, kinds_of, known_kind
from tripletcl.embedding import FactEmbedder, asked_facts
from tripletcl.evaluation import average_precision
from tripletcl.retrieval import Query

MOST = 5
"""Narrower nouns of a thing that are asked for, drawn at random."""
Words = dict[Query, Tensor]
"""The photographs that show what each word asks for, `[N]` bool."""


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    table, embedder = read_facts(options.data), new_model()
    photos, tests = both_splits(embedder, table, options)
    teach_table(embedder, photos, table.facts)
    vectors = embedder.vectors_of(tests.features)
    taught = {query: shown for query, shown in words_of(table, tests).items() if shown.any()}
    groups = {"taught nouns": taught, "the same or narrower": narrower(taught), "broader": broader(taught)}
    print("| nouns | number | without kinds | with them |\n| --- | --- | --- | --- |")
    for name, words in groups.items():
        with patch(f"{nouns.__name__}.kinds_of", none), patch(f"{asked_facts.__name__}.kinds_of", none):
            before = mean_ap(embedder, vectors, words)
        after = mean_ap(embedder, vectors, words)
        print(f"| {name} | {len(words)} | {before:.3f} | {after:.3f} |", flush=True)


def none(noun: str) -> tuple[str, ...]:
    """No kinds."""
    return ()


def narrower(taught: Words) -> Words:
    """Nouns that were not taught, of which a taught one is the nearest broader one."""
    found = {}
    for unit in ("subject", "object"):
        things = {word: shown for query, shown in taught.items() if (word := getattr(query, unit)) is not None}
        kinds: dict[str, list[str]] = {thing: [] for thing in things}
        for noun in sorted(set(all_nouns()) - set(things)):
            if nearest := known_kind(noun, things):
                kinds[nearest].append(noun)
        for thing, narrow in kinds.items():
            some = random.Random(0).sample(narrow, min(MOST, len(narrow)))
            found |= {Query(**{unit: noun}): things[thing] for noun in some}
    return found


def broader(taught: Words) -> Words:
    """The nouns that were not taught, and are broader than two taught objects or more; of equal ones the first."""
    kinds: dict[str, list[Tensor]] = {}
    things = {text for query in taught for text in query.units}
    for query, shown in taught.items():
        for noun in kinds_of(query.object) if query.object else ():
            if noun not in things:
                kinds.setdefault(noun, []).append(shown)
    several = {noun: torch.stack(shown).any(dim=0) for noun, shown in kinds.items() if len(shown) > 1}
    first = {shown.numpy().tobytes(): noun for noun, shown in reversed(several.items())}
    return {Query(object=noun): several[noun] for noun in first.values()}


def mean_ap(embedder: FactEmbedder, vectors: Tensor, words: Words) -> float:
    ranked = scores(embedder.texts, vectors, list(words))
    return float(average_precision(ranked, torch.stack(list(words.values()), dim=1)).mean())


if __name__ == "__main__":
    main()
