"""The supervisor over small processes that stand where Rasa and the rest stand (with those: tests/full)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from plugin.cli import stack as stack_module
from plugin.cli.process import ChildDied
from plugin.cli.stack import NAMES, NotHealthy, Stack
from plugin.cli.state import PortInUse, Ports
from plugin.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]

#: Answers 200 to everything on the port of its arguments; behaves as the file `behaviour` beside it says.
SERVER = """
import http.server, pathlib, signal, sys, time
behaviour = pathlib.Path(sys.modules["__main__"].__file__).with_name("behaviour")
behaviour = behaviour.read_text() if behaviour.exists() else ""
if behaviour == "dies":
    raise SystemExit("the reason of its death")
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "mute":
    time.sleep(60)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
flag = "--port" if "--port" in sys.argv else "-p"
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index(flag) + 1])), Handler).serve_forever()
"""
WORKER = "import os, time\nprint('dispatching', os.environ['VAMOS_CONFIG'], flush=True)\ntime.sleep(60)\n"


class Project:
    """A directory with modules named as the real ones; `python -m` finds them first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.places = {
            "sandbox": directory / "channels" / "whatsapp" / "sandbox",
            "actions": directory / "rasa_sdk",
            "rasa": directory / "rasa",
            "worker": directory / "plugin" / "cli",
        }
        for name, place in self.places.items():
            place.mkdir(parents=True)
            (place / "__main__.py").write_text(WORKER if name == "worker" else SERVER)
            while place != directory:
                (place / "__init__.py").touch()
                place = place.parent

    def behave(self, name: str, how: str) -> None:
        (self.places[name] / "behaviour").write_text(how)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def stack(tmp_path: Path, project: Project) -> Iterator[Stack]:
    made = Stack(
        tmp_path / "state",
        ports=Ports.free(),
        isolated=True,
        model=tmp_path / "model.tar.gz",
        project=project.directory,
    )
    yield made
    made.stop()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def test_it_starts_everything_and_stops_everything(stack: Stack) -> None:
    stack.start()
    stack.check()
    assert answers(stack.sandbox_url)
    assert answers(stack.rasa_url)
    assert str(stack.state.settings) in stack.log("worker")
    stack.stop()
    assert not answers(stack.sandbox_url)
    assert not answers(stack.rasa_url)
    stack.ports.check()


def test_secrets_are_in_no_command_line(stack: Stack) -> None:
    stack.start()
    secrets = [secret.encode() for secret in stack.state.secrets().values()]
    for name in NAMES:
        process = Path(f"/proc/{stack.pid(name)}")
        if not process.exists():
            pytest.skip("needs /proc")
        assert not any(secret in (process / "cmdline").read_bytes() for secret in secrets)
        known = sum(secret in (process / "environ").read_bytes() for secret in secrets)
        assert known == (2 if name == "sandbox" else 0)


def test_it_can_be_started_again_on_the_same_directory(stack: Stack) -> None:
    for _ in range(2):
        stack.start()
        stack.stop()


def test_a_process_that_dies_at_start_is_told_and_the_others_are_stopped(stack: Stack, project: Project) -> None:
    project.behave("actions", "dies")
    with pytest.raises(ChildDied) as caught:
        stack.start()
    assert "actions ended with exit code 1" in caught.value.message
    assert "the reason of its death" in caught.value.message
    stack.ports.check()


def test_a_process_that_dies_later_is_told(stack: Stack) -> None:
    stack.start()
    pid = stack.pid("rasa")
    assert pid

    os.kill(pid, signal.SIGKILL)

    def told() -> bool:
        try:
            stack.check()
        except ChildDied as died:
            return "rasa was killed by SIGKILL" in died.message
        return False

    until(told)


def test_a_process_that_never_answers_is_told_with_its_log(
    stack: Stack, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "START_LIMIT", 3.0)
    project.behave("rasa", "mute")
    with pytest.raises(NotHealthy, match="rasa is not healthy after 3 s"):
        stack.start()


def test_one_process_can_be_killed_and_revived(stack: Stack) -> None:
    stack.start()
    stack.kill("actions")
    stack.check()
    assert not answers(f"http://127.0.0.1:{stack.ports.actions}/")
    assert answers(stack.rasa_url)
    stack.revive("actions")
    assert answers(f"http://127.0.0.1:{stack.ports.actions}/")


def test_a_stubborn_process_is_killed_after_the_deadline(
    stack: Stack, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "STOP_LIMIT", 1.0)
    project.behave("actions", "stubborn")
    stack.start()
    stack.stop()
    assert not answers(f"http://127.0.0.1:{stack.ports.actions}/")


def test_a_port_in_use_stops_the_start_before_anything_runs(stack: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports.rasa))
        taken.listen()
        with pytest.raises(PortInUse, match=str(stack.ports.rasa)):
            stack.start()
    assert not list(stack.state.logs.glob("*.log"))


def test_a_project_without_a_bot_is_told(tmp_path: Path) -> None:
    pytest.importorskip("rasa.version")
    with pytest.raises(ConfigurationError, match="no reference bot"):
        Stack(tmp_path / "state", ports=Ports.free(), project=tmp_path).start()


def test_sigterm_ends_a_supervisor_and_all_its_children(tmp_path: Path, project: Project) -> None:
    code = f"""
import time
from pathlib import Path
from plugin.cli.stack import Stack, terminated_as_interrupt
from plugin.cli.state import Ports
stack = Stack(Path({str(tmp_path / "state")!r}), ports=Ports.free(), isolated=True,
              model=Path("model"), project=Path({str(project.directory)!r}))
try:
    with terminated_as_interrupt(), stack:
        print(stack.rasa_url, flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        url = supervisor.stdout.readline().strip()
        assert answers(url)
        supervisor.terminate()
        assert supervisor.wait(30) == 0
        assert supervisor.stdout.read() == "interrupted\n"
    assert not answers(url)


def test_a_second_signal_does_not_break_off_the_cleaning_up() -> None:
    code = """
import sys, time
from plugin.cli.stack import terminated_as_interrupt
try:
    with terminated_as_interrupt():
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            sys.stdin.readline()
            print("cleaned", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning\n"
        for number in (signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "cleaned\ninterrupted\n"
        assert process.wait(30) == 0
