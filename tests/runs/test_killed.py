"""Commands that are killed at some of the changes that they make; `benchmarks/killed.py --everything` kills at all."""

from __future__ import annotations

import numpy as np
import pytest
from killing import COMMANDS, Campaign, Command, Workplace, adapt_to_photos, undo_lesson


def kills(command: Command) -> int:
    """Kill those more often that would do it twice when they are repeated."""
    return 6 if command.action in (undo_lesson, adapt_to_photos) else 2


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_that_is_killed_is_finished_and_not_done_twice(workplace: Workplace, command: Command) -> None:
    campaign = Campaign(workplace, command)
    points = np.linspace(0, campaign.points, kills(command) + 2).astype(int)[1:-1]
    wrong = {point: campaign.kill(point, point // 2) for point in points.tolist()}  # killed again when it is repeated
    assert not any(wrong.values()), wrong
