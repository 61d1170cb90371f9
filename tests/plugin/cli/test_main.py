from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plugin import __version__
from plugin.cli.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = (
    *("run", "demo", "test", "crash-test", "worker", "sandbox", "migrate", "doctor", "user", "operation"),
    "suppress",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_has_its_own_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert f"\n    {command} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: vamos {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["run", "--port-rasa", "70000"], "'70000' is not a port"),
        (["run", "--port-rasa", "0"], "'0' is not a port"),
        (["demo", "--taps", "many"], "'many' is not all, none or a percentage"),
        (["demo", "--taps", "130%"], "'130%' is not all, none or a percentage"),
        (["demo", "--taps", "30"], "'30' is not all, none or a percentage"),
        (["demo", "--redirect", "robot"], "invalid choice: 'robot'"),
        (["demo", "--contacts", "0"], "'0' is not a whole number above 0"),
        (["user"], "COMMAND"),
        (["user", "add"], "login"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("text", "share"), [("all", 1.0), ("none", 0.0), ("30%", 0.3), ("100%", 1.0)])
def test_taps_become_a_share(text: str, share: float) -> None:
    assert parser().parse_args(["demo", "--taps", text]).taps == share


def test_help_and_version_import_neither_rasa_nor_the_database() -> None:
    code = (
        "import sys\nfrom plugin.cli.__main__ import parser\nparser()\n"
        "print(sorted(m for m in ('rasa', 'sqlalchemy', 'httpx', 'rich', 'tensorflow') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = subprocess.run(
        [sys.executable, "-m", "plugin.cli", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{__version__}\n"


def test_an_error_of_the_product_is_two_lines_and_exit_code_1(tmp_path: Path) -> None:
    file = tmp_path / "vamos.yml"
    file.write_text("databse: sqlite:///x.db\n")
    done = subprocess.run(
        [sys.executable, "-m", "plugin.cli", "migrate"],
        cwd=ROOT,
        env={**os.environ, "VAMOS_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "databse" in done.stderr
    assert "Known are: database" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "vamos.yml").write_text("database: sqlite:///v.db\n")
    (tmp_path / "credentials.yml").write_text("rest:\n")
    command = [sys.executable, "-m", "plugin.cli", "suppress", "list", "--state", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The packages as a wheel leaves them, without the checkout around them."""
    for package in ("plugin", "channels"):
        shutil.copytree(ROOT / package, tmp_path / "lib" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "here").mkdir()
    return tmp_path


def from_wheel(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAMOS_")}
    return subprocess.run(
        [sys.executable, "-m", "plugin.cli", *arguments],
        cwd=installed / "here",
        env={**environment, "PYTHONPATH": str(installed / "lib"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["run", "demo", "test"])
def test_what_needs_a_checkout_says_so_and_touches_nothing(installed: Path, command: str) -> None:
    before = sorted(installed.rglob("*"))
    done = from_wheel(installed, command)
    assert done.returncode == 1
    assert "needs a checkout" in done.stderr
    assert str(installed / "lib") in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(installed.rglob("*")) == before


def test_without_a_checkout_the_state_is_in_the_present_directory(installed: Path) -> None:
    done = from_wheel(installed, "demo", "--attach")
    assert done.returncode == 1
    assert "There is no var/vamos.yml" in done.stderr
