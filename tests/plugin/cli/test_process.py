from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.cli.process import Child, ChildDied, stop_all


def python(tmp_path: Path, code: str, name: str = "child") -> Child:
    return Child(name, [sys.executable, "-c", code], tmp_path / "logs" / f"{name}.log", tmp_path, os.environ)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Running, and not merely a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_dead_child_is_told_with_its_exit_code_and_the_end_of_its_log(tmp_path: Path) -> None:
    child = python(tmp_path, "for n in range(100): print('line', n)\nraise SystemExit(3)")
    child.start()
    assert child.wait(20)
    with pytest.raises(ChildDied) as caught:
        child.check()
    text = str(caught.value)
    assert "child ended with exit code 3" in text
    assert str(child.log) in text
    assert "line 99" in text
    assert "line 80\n" not in text


def test_a_killed_child_is_told_with_the_signal(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    child.start()
    child.signal(signal.SIGKILL)
    assert child.wait(20)
    with pytest.raises(ChildDied, match="was killed by SIGKILL"):
        child.check()


def test_a_child_that_was_never_started_or_was_killed_on_purpose_is_not_dead(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    child.check()
    child.start()
    child.check()
    child.kill()
    child.check()
    assert not child.running


def test_the_log_of_the_time_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        child = python(tmp_path, f"print('{word}')")
        child.start()
        assert child.wait(20)
    assert child.log.read_text() == "second\n"
    assert child.log.with_name("child.log.1").read_text() == "first\n"


def test_children_end_politely_and_stubborn_ones_by_force_with_their_own_children(tmp_path: Path) -> None:
    polite = python(tmp_path, "import signal; print('up', flush=True); signal.pause()", "polite")
    stubborn = python(
        tmp_path,
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'\n"
        "print(subprocess.Popen([sys.executable, '-c', code]).pid, flush=True)\n"
        "time.sleep(60)",
        "stubborn",
    )
    for child in (polite, stubborn):
        child.start()
    until(lambda: polite.tail().strip() == "up" and stubborn.tail().strip().isdecimal())
    grandchild = int(stubborn.tail())
    assert alive(grandchild)
    assert stop_all([polite, stubborn], 1.0) == ["stubborn"]
    until(lambda: not alive(grandchild))
    assert not polite.running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal exists on Linux only")
def test_no_child_outlives_a_supervisor_that_is_killed_hard(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom plugin.cli.process import Child\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = Child('c', command, Path('c.log'), Path('.'), os.environ)\n"
        "child.start()\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.kill()
    until(lambda: not alive(pid))
