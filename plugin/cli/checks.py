"""`vamos test`: the checks and tests of the project, fast ones first."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from plugin.cli.console import say
from plugin.cli.stack import PROJECT, require_checkout

_LANES = {
    "style": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "types": ["-m", "mypy"],
    "layers": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    # Two thirds of its time is waiting for processes and databases: every core has a worker, each with its own cluster.
    "fast tests": ["-m", "pytest", "-q", "-m", "not full", "-n", "auto", "--dist", "worksteal"],
    # What shares a running stack goes to one worker (see tests/conftest.py). A stack needs 2 GB.
    "full tests": ["-m", "pytest", "-q", "-m", "full", "-n", "auto", "--maxprocesses=2", "--dist=loadgroup"],
}


def test(options: argparse.Namespace) -> int:
    """Run every lane, also after a failure; 0 only when all passed."""
    require_checkout()
    lanes = {name: command for name, command in _LANES.items() if not (options.fast and name == "full tests")}
    failed, times = [], {}
    for name, command in lanes.items():
        say(f"\n=== {name}")
        started = time.monotonic()
        if subprocess.run([sys.executable, *command], cwd=PROJECT, check=False).returncode:
            failed.append(name)
        times[name] = time.monotonic() - started
    say("")
    for name, seconds in times.items():
        say(f"{'FAILED' if name in failed else 'passed'}  {name:<12}{seconds:7.1f} s")
    say(f"        {'in all':<12}{sum(times.values()):7.1f} s")
    return 1 if failed else 0
