"""The facts that scenes can show, and a balanced sample of them."""

from __future__ import annotations

import random
from collections import Counter

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.scenes.relations import PREDICATES
from tripletcl.scenes.subjects import SUBJECTS

FEWEST_FACTS = 12
SHARE_OF_ORDER_2 = 0.3
ENOUGH = 3
"""A unit is used this often before a new one is introduced, so that even few facts share their units."""


def all_facts() -> dict[int, list[Fact]]:
    """List every fact that can be drawn, by order."""
    return {
        1: [Fact(subject) for subject in SUBJECTS],
        2: [Fact(s, name) for s in SUBJECTS for name, predicate in PREDICATES.items() if predicate.alone],
        3: [Fact(s, name, o) for s in SUBJECTS for name, predicate in PREDICATES.items() for o in predicate.objects],
    }


def scene_facts(facts: int = 150, seed: int = 0) -> tuple[Fact, ...]:
    """Sample facts of all three orders whose units recur.

    About a tenth are of order 1 (at most one a subject), 30 % of order 2, the rest of order 3. The next fact is always
    the one whose units need use most: those used once or twice, then new ones, then the least used; ties are broken at
    random.

    Args:
        facts: The number of facts.
        seed: The seed of the sample.

    Raises:
        UserError: facts is out of range.
    """
    pools = all_facts()
    most = sum(map(len, pools.values()))
    if not FEWEST_FACTS <= facts <= most:
        raise UserError(f"scenes can show {FEWEST_FACTS} to {most} facts, not {facts}")
    counts = _orders(facts, {order: len(pool) for order, pool in pools.items()})
    rng = random.Random(f"facts {seed}")
    used: Counter[tuple[int, str]] = Counter()
    chosen: set[Fact] = set()
    for order in (3, 2, 1):
        pool = pools[order]
        rng.shuffle(pool)
        for _ in range(counts[order]):
            best = min(range(len(pool)), key=lambda k: sum(_cost(used[unit]) for unit in _units(pool[k])))
            fact = pool.pop(best)
            used.update(_units(fact))
            chosen.add(fact)
    return tuple(fact for pool in all_facts().values() for fact in pool if fact in chosen)


def _orders(facts: int, available: dict[int, int]) -> dict[int, int]:
    """The number of facts of each order; if an order has too few, the others make up for it."""
    two = min(round(SHARE_OF_ORDER_2 * facts), available[2])
    one = min(max(facts // 10, 1), available[1])
    three = min(facts - one - two, available[3])
    two = min(facts - one - three, available[2])
    return {1: facts - two - three, 2: two, 3: three}


def _units(fact: Fact) -> list[tuple[int, str]]:
    return [(k, unit) for k, unit in enumerate(fact.units) if unit is not None]


def _cost(times: int) -> float:
    return times if times >= ENOUGH else 1.5 if times == 0 else 1.0
