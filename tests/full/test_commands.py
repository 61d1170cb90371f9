"""`vamos run` and `vamos demo` as a person calls them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from plugin.cli.state import Ports

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]
VAMOS = [sys.executable, "-m", "plugin.cli"]


class Run:
    """`vamos run` on free ports, with what it said so far."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = Ports.free()
        self.said: list[str] = []
        self.ready = threading.Event()
        arguments = [f"--port-{name}={port}" for name, port in vars(self.ports).items()]
        self.process = subprocess.Popen(
            [*VAMOS, "run", "--state", str(state), *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True).start()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            self.said.append(line.rstrip())
            if "Stop with Ctrl-C" in line:
                self.ready.set()
        self.ready.set()

    def line(self, start: str) -> str:
        return next(line.split()[-1] for line in self.said if line.strip().startswith(start))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "state")
    assert run.ready.wait(300)
    assert run.process.poll() is None, "\n".join(run.said)
    yield run
    run.process.kill()
    run.process.wait()


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VAMOS, "demo", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_run_prints_addresses_that_work_plays_the_demo_and_stops_on_ctrl_c(running: Run) -> None:
    assert httpx.get(running.line("Phones"), trust_env=False).status_code == 200
    with httpx.Client(trust_env=False, follow_redirects=True) as browser:
        page = browser.get(running.line("Desk (operator)"))
    assert page.status_code == 200
    assert "<html" in page.text

    again = subprocess.run(
        [*VAMOS, "run", "--state", str(running.state)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert f"Another vamos (process {running.process.pid}) runs on" in again.stderr

    played = demo("--attach", "--state", str(running.state), "--json", "--contacts", "8", "--seed", "5")
    assert played.returncode == 0, played.stderr
    result = json.loads(played.stdout)
    assert result["problems"] == []
    assert [broadcast["rows"] for broadcast in result["broadcasts"]] == [12] * 6
    assert result["rows"] == result["accepted"] + result["rejected"] + sum(result["skipped"].values()) == 72
    assert result["accepted"] == sum(result["states"].values()) == 48
    assert result["replied"] == sum(result["redirected"].values()) > 0
    assert all(result["redirected"][name] for name in ("human", "bot", "notification", "opt_out")), result

    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert "stopped" in running.said[-1]
    running.ports.check()


def test_an_interrupted_demo_leaves_no_phones_that_answer_by_themselves(running: Run) -> None:
    ledger = running.state / "sandbox" / "ledger.jsonl"

    def answers() -> list[object]:
        entries = map(json.loads, ledger.read_text().splitlines())
        configs = [entry["config"] for entry in entries if entry["kind"] == "config"]
        return [config["answers"] for config in configs if "answers" in config]

    arguments = ["demo", "--attach", "--state", str(running.state), "--contacts", "200"]
    with subprocess.Popen([*VAMOS, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True) as played:
        deadline = time.monotonic() + 60
        while not answers():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for number in (signal.SIGINT, signal.SIGTERM):
            played.send_signal(number)
        assert played.wait(60) == 130
    assert answers()[-1] is None


def test_a_demo_whose_stack_dies_shows_the_log_of_the_dead_process(tmp_path: Path) -> None:
    arguments = ["demo", "--state", str(tmp_path / "state"), "--contacts", "300", "--rate", "20"]
    with subprocess.Popen([*VAMOS, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True) as played:
        children = Path(f"/proc/{played.pid}/task/{played.pid}/children")
        if not children.exists():
            played.kill()
            pytest.skip("needs /proc")
        assert played.stderr is not None
        for line in played.stderr:
            if "none, talk button" in line:
                break
        (server,) = [
            pid for pid in children.read_text().split() if "rasa\0run" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        os.kill(int(server), signal.SIGKILL)
        said = played.stderr.read()
        assert played.wait(60) == 1
    assert "rasa was killed by SIGKILL" in said
    assert "rasa.log" in said
    assert "Traceback" not in said


def test_a_file_whose_lines_redirect_elsewhere_adds_up() -> None:
    file = "data/samples/cobranca_excel.csv"
    chosen = ["--redirect", "human", "--queue", "Vendas", "--taps", "all"]
    played = demo("--csv", file, "--template", "cobranca_vamos_conversar", *chosen, "--json")
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout)["redirected"]["human"] > 0


def test_a_child_that_dies_stops_run_with_clear_words(running: Run) -> None:
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    for pid in map(int, children.read_text().split()):
        if "rasa_sdk" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    assert running.process.wait(60) == 1
    said = "\n".join(running.said)
    assert "actions was killed by SIGKILL" in said
    assert "actions.log" in said
    running.ports.check()


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*VAMOS, "run", "--state", str(tmp_path), "--port-actions", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port}, where the action server should listen" in done.stderr
    assert "--port-actions" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--queue", "Vendas"], "Add --redirect human"),
        (["--redirect", "none", "--agent", "ana"], "Add --redirect human"),
        (["--csv", "there/is/none.csv"], "there/is/none.csv can't be read"),
        (["--attach", "--state", "there/is/none"], "Start ./vamos run first"),
    ],
)
def test_a_demo_that_cannot_be_played_says_why_at_once(arguments: list[str], said: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
