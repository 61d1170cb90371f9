"""Provider payloads, a receiver of webhooks and sandboxes, for the tests of this folder."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from plugin.testing.sandbox import Receiver, Sandbox, listening

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Real provider payloads; they live outside the project."""
    folder = Path(os.environ.get("VAMOS_FIXTURES") or ROOT.parent / "shared" / "fixtures")
    if not folder.is_dir():
        pytest.skip(f"no provider payloads at {folder} (VAMOS_FIXTURES)")
    return folder


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as kept:
        yield kept


@pytest.fixture(scope="session")
def running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("sandbox"))
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def live(running_sandbox: Sandbox) -> Sandbox:
    """A running sandbox as it starts, with nothing of earlier tests on its way; its chats are shared with them."""
    quick = {"sent": 1, "delivered": 2, "read": 3, "answer": 4}
    running_sandbox.configure(
        webhook=None, failures=[], answers=None, latency_ms=0, delays_ms=quick, disorder={}, clock_offset_s=0
    )
    deadline = time.monotonic() + 20
    while not running_sandbox.idle():
        assert time.monotonic() < deadline, "webhooks of an earlier test are still on their way"
        time.sleep(0.02)
    return running_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """Not started yet."""
    made = Sandbox(tmp_path / "sandbox")
    yield made
    made.stop()
