from __future__ import annotations

import pytest

from plugin.store import Store
from plugin.testing.scenario import Scenario


@pytest.fixture
def scenario(store: Store) -> Scenario:
    return Scenario(store)
