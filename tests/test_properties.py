"""The declared properties of every method against its behaviour on the toy sequence.

Problem agnostic and consistent are held by the tests of each method: what they mean is in its own equations.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from toy import ToyLearner, run_toy, toy_tasks

from tripletcl.continual import Method
from tripletcl.methods import METHODS
from tripletcl.testing import PROPERTIES, is_finetune_at_zero
from tripletcl.testing.contract import same, zero_settings

OTHER_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("mas", {"scope": "local"}),
    ("mas", {"accumulate": "ema"}),
    ("ewc", {"form": "separate"}),
    ("ewc", {"fisher": "loss"}),
    ("imm", {"merge": "mean"}),
    ("analytic", {"trunk": "first"}),
]
"""Settings that may change the properties of a method."""

CASES = {name: (name, {}) for name, method in METHODS.items() if not method.joint}
CASES |= {f"{name} {' '.join(settings.values())}": (name, settings) for name, settings in OTHER_SETTINGS}


def build(case: str) -> Method:
    """The method of a case; four thousand random features would take seconds."""
    name, settings = CASES[case]
    return METHODS[name](**({"features": 100} if name == "analytic" else {}), **settings)


@pytest.mark.parametrize("property_", PROPERTIES)
@pytest.mark.parametrize("case", CASES)
def test_a_property_is_promised_where_a_run_shows_it_and_only_there(tmp_path: Path, case: str, property_: str) -> None:
    held = PROPERTIES[property_](partial(build, case), tmp_path)
    assert held == asdict(build(case).properties)[property_]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if zero_settings(method)])
def test_at_zero_a_method_is_finetune_bit_for_bit(tmp_path: Path, name: str) -> None:
    zero: dict[str, Any] = zero_settings(METHODS[name]) or {}
    assert is_finetune_at_zero(lambda: METHODS[name](**zero), tmp_path)


@pytest.mark.parametrize("case", [case for case in CASES if build(case).properties.adaptive])
def test_recomputed_importance_does_not_depend_on_the_old_one(tmp_path: Path, case: str) -> None:
    first, second, other = toy_tasks()
    states = []
    for number, tasks in enumerate(([first, second], [first, other])):
        method = build(case)
        learner, _ = run_toy(tmp_path / str(number), method, tasks=tasks)
        learner.load_state_dict(ToyLearner().state_dict())
        method.add_importance(other, 1.0, recompute=True)
        states.append(method.state_dict())
    assert same(*({key: state[key] for key in ("omega", "weight", "weighted") if key in state} for state in states))
