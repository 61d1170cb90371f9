from __future__ import annotations

import pytest

from plugin.domain.access import ADMIN, ATTEND, BROADCAST, REPORT, Principal
from plugin.errors import Forbidden, NotFound


def person(*grants: tuple[str, str]) -> Principal:
    return Principal("u", "ana", "Ana", frozenset(grants))


def test_a_grant_reaches_its_operation_and_no_other() -> None:
    ana = person(("one", BROADCAST))
    assert ana.can(BROADCAST, "one")
    assert not ana.can(BROADCAST, "two")
    assert not ana.can(REPORT, "one")


def test_a_star_grant_reaches_every_operation() -> None:
    assert person(("*", ATTEND)).can(ATTEND, "whatever")
    assert person(("*", ATTEND), ("one", BROADCAST)).operations(ATTEND) == "*"
    assert person(("*", ATTEND), ("one", BROADCAST)).operations(BROADCAST) == {"one"}


def test_admin_implies_everything_where_it_is_granted() -> None:
    assert person(("*", ADMIN)).can(BROADCAST, "one")
    assert person(("one", ADMIN)).can(BROADCAST, "one")
    assert not person(("one", ADMIN)).can(BROADCAST, "two")


def test_nobody_may_do_anything_by_default() -> None:
    assert person().operations() == frozenset()
    with pytest.raises(NotFound):
        person().require(BROADCAST, "one")


def test_a_foreign_operation_does_not_exist_and_a_known_one_is_forbidden() -> None:
    ana = person(("one", ATTEND))
    with pytest.raises(NotFound):
        ana.require(BROADCAST, "two")
    with pytest.raises(Forbidden):
        ana.require(BROADCAST, "one")
    ana.require((BROADCAST, ATTEND), "one")
