"""Measures how often "nothing here shows that" is right (docs/measured/base.md).

    TRIPLETCL_DATA=... python benchmarks/presence.py --features runs/features

For words: the evidence for the subjects and objects that some test photograph of TRIPLETCL_DATA/facts shows, and for
things that none shows: first names of ImageNet's fish, birds, reptiles, insects and mammals without dogs, and the last
words of these names. For taught facts: that for the sports, taught by all training photographs or by lessons of eight
photos, among all test photographs and among those that do not show the fact. The threshold is that which 10 % of one
half of the words, or facts, shown are below; all rates are of the other half, averaged over 200 halves. The k-th of n
values is the quantile at k / (n + 1), so that one more value is below it with this probability. A word that the model
does not know is told to be so instead. Prints the rates and the quantiles of the evidence that
`tripletcl.retrieval.presence` has.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from collection import Lessons, Photos, both_splits, new_model, parser, read_facts, teach_table
from timm.data import ImageNetInfo
from torch import Tensor

from tripletcl.data import FactTable
from tripletcl.embedding import FactEmbedder
from tripletcl.retrieval import FactIndex
from tripletcl.retrieval.presence import BEST, FAMILIAR, LEAST, SHARES, best_seen

ABSENT = [*range(151), *range(270, 398)]
"""ImageNet's fish, birds, reptiles, insects and mammals without dogs."""
SHOWN_AFTER_ALL = (
    "sorrel",
    "cricket",
    "ox",
    "American egret",
    "goose",
    "bittern",
    "beauty",
    "monster",
    "widow",
    "stick",
)
SHOWN_AFTER_ALL += ("ray", "dog", "grey", "eater", "constrictor", "coral")
"""Of these names those that a test photograph shows, by eye, and last words that mean something else."""
HALVES, LESSONS, LESSON_PHOTOS = 200, 20, 8


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    table, embedder = read_facts(options.data), new_model()
    photos, tests = both_splits(embedder, table, options)
    print("| asked for (shown, not shown) | said of what none shows | or not known | said of what some shows |")
    print("| --- | --- | --- | --- |")
    evidence = words(embedder, table, tests)
    sports = [number for number in range(len(table.facts)) if is_sport(table, tests, number)]
    by_lessons, without = lessons(embedder, photos, tests, table, sports)
    print_row("a sport, taught by eight photos", by_lessons, without)
    teach_table(embedder, photos, table.facts)
    some, none = facts(embedder, tests, sports)
    print_row("a sport, taught by a table", some, none)
    print_quantiles("SEEN", evidence)
    print_quantiles("SCORED", torch.cat([by_lessons, some]))


# --- words -----------------------------------------------------------------------------------------------------------


def words(embedder: FactEmbedder, table: FactTable, tests: Photos) -> Tensor:
    """Print the rates of words that were not taught; returns the evidence for those that some photograph shows."""
    index = index_of(embedder, tests)
    shown = list(dict.fromkeys((unit, text) for unit in (0, 2) for text in shown_units(table, tests, unit)))
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(number).split(", ")[0] for number in ABSENT]
    names = [name for name in names if name not in SHOWN_AFTER_ALL]
    last = sorted({re.split(r"[ -]", name)[-1].lower() for name in names if re.search(r"[ -]", name)})
    last = [name for name in last if name not in SHOWN_AFTER_ALL]
    evidence = measured(embedder, index, shown)
    for title, absent in (("names of animals", names), ("last words of these names", last)):
        others = [(0, name) for name in absent]
        unknown = unfamiliar(embedder, shown), unfamiliar(embedder, others)
        print_row(title, evidence, measured(embedder, index, others), *unknown)
    return evidence


def measured(embedder: FactEmbedder, index: FactIndex, asked: list[tuple[int, str]]) -> Tensor:
    return torch.tensor([best_seen(text, unit, index, embedder, None) for unit, text in asked])


def unfamiliar(embedder: FactEmbedder, asked: list[tuple[int, str]]) -> Tensor:
    return torch.tensor([(embedder.familiarity(text, unit) or 0) < FAMILIAR for unit, text in asked])


def shown_units(table: FactTable, tests: Photos, unit: int) -> list[str]:
    present = [fact for number, fact in enumerate(table.facts) if tests.shown[:, number].any()]
    return list(dict.fromkeys(text for fact in present if (text := fact.units[unit]) is not None))


# --- taught facts ----------------------------------------------------------------------------------------------------


def is_sport(table: FactTable, tests: Photos, number: int) -> bool:
    """True for a fact whose photographs are of sports: the class of the others says that they do not show it."""
    paths = [str(table.paths[image]) for image in tests.ids[tests.shown[:, number].numpy()]]
    return len(paths) > BEST and sum("sports100" in path for path in paths) > 0.9 * len(paths)


def facts(embedder: FactEmbedder, tests: Photos, numbers: list[int]) -> tuple[Tensor, Tensor]:
    """The evidence for taught facts among all photographs, and among those that do not show it, `[n]` each."""
    vectors, shown = embedder.vectors_of(tests.features), tests.shown[:, numbers]
    texts = embedder.texts
    asked = [texts.encode_levelled(tests.facts[number].units)[0].ravel() for number in numbers]
    scores = vectors.flatten(1) @ torch.from_numpy(np.stack(asked)).T  # [N, n]
    some, none = (each.topk(BEST, dim=0).values[-1] for each in (scores, scores.masked_fill(shown, -torch.inf)))
    return some, none


def lessons(
    embedder: FactEmbedder, photos: Photos, tests: Photos, table: FactTable, numbers: list[int]
) -> tuple[Tensor, Tensor]:
    """As `facts`, of groups of ten facts that are taught by eight photos each."""
    teacher, found = Lessons(embedder, tests), []
    for seed in range(LESSONS):
        generator = np.random.default_rng(seed)
        some = generator.permutation(numbers)[:10].tolist()
        picks = [generator.permutation(photos.shown[:, fact].nonzero()[:, 0].numpy())[:LESSON_PHOTOS] for fact in some]
        teacher.teach([table.facts[fact] for fact in some], [photos.part(torch.from_numpy(each)) for each in picks])
        found.append(facts(embedder, tests, some))
    return torch.cat([some for some, _ in found]), torch.cat([none for _, none in found])


# --- rates -----------------------------------------------------------------------------------------------------------


def index_of(embedder: FactEmbedder, tests: Photos) -> FactIndex:
    index = FactIndex(embedder)
    index.add([f"/{number}.jpg" for number in range(len(tests.ids))], embedder.vectors_of(tests.features))
    return index


def print_row(
    title: str, some: Tensor, none: Tensor, some_unknown: Tensor | None = None, none_unknown: Tensor | None = None
) -> None:
    """Print rates of one half by the threshold of the other; a word that is not known is told to be so instead."""
    some_unknown, none_unknown = (
        torch.zeros(len(each), dtype=torch.bool) if unknown is None else unknown
        for each, unknown in ((some, some_unknown), (none, none_unknown))
    )
    generator, rates = np.random.default_rng(0), []
    for _ in range(HALVES):
        order = torch.from_numpy(generator.permutation(len(some)))
        fitted, others = order[: len(some) // 2], order[len(some) // 2 :]
        threshold = quantile(some[fitted], LEAST)
        missing, wrongly = (none < threshold) & ~none_unknown, ((some < threshold) & ~some_unknown)[others]
        rates.append([float(each.float().mean()) for each in (missing, missing | none_unknown, wrongly)])
    missing, told, wrongly = np.mean(rates, axis=0)
    print(f"| {title} ({len(some)}, {len(none)}) | {missing:.2f} | {told:.2f} | {wrongly:.2f} |", flush=True)


def print_quantiles(name: str, some: Tensor) -> None:
    print(f"{name} = {tuple(round(quantile(some, share), 3) for share in SHARES)}")


def quantile(some: Tensor, share: float) -> float:
    """The evidence that another word, or fact, is below with this probability."""
    return float(np.quantile(some.numpy(), share, method="weibull"))


if __name__ == "__main__":
    main()
