from __future__ import annotations

from collections import Counter

import pytest

from plugin.cli.crashtest.plan import POINTS, RECEIVER_POINTS, make_plan, require_room
from plugin.errors import Invalid


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert make_plan(7, 200, 10, 2) == make_plan(7, 200, 10, 2)
    assert make_plan(7, 200, 10, 2) != make_plan(8, 200, 10, 2)


def test_kills_are_random_and_at_every_point_in_turn() -> None:
    plan = make_plan(1, 1000, 50, 10)
    kinds = Counter(act.kind for act in plan)
    assert kinds == {"kill": 1000, "drain": 50, "freeze": 10}
    assert [act.number for act in plan] == list(range(1060))
    points = Counter(act.point for act in plan if act.kind == "kill")
    assert points == {"": 500, **dict.fromkeys(POINTS, 50)}
    assert all((act.target == "receiver") == (act.point in RECEIVER_POINTS) for act in plan if act.point)
    assert Counter(act.target for act in plan if act.kind == "kill" and not act.point)["receiver"] == 83


def test_twenty_kills_come_to_every_point() -> None:
    assert {act.point for act in make_plan(3, 20, 1, 1)} == {"", *POINTS}


def test_too_few_recipients_for_the_kills_are_refused_in_words() -> None:
    require_room(100, 1000)
    with pytest.raises(Invalid, match="999 recipients are too few for 100 kills") as caught:
        require_room(100, 999)
    assert "at least 10 recipients per kill" in caught.value.remedy
