from __future__ import annotations

from pathlib import Path

import pytest

from plugin.store import Store
from plugin.testing.scenario import Scenario


@pytest.fixture
def scenario(store: Store) -> Scenario:
    """A small installation on each kind of database."""
    return Scenario(store)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatcher remembers its database in a file: no test may find another's."""
    monkeypatch.chdir(tmp_path)
