"""`./vamos`, the sh script, with interpreters that only note what they were asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "dirname", "readlink", "cat", "cksum", "mkdir", "rm", "chmod", "cp")

#: A Python of version $VERSION: answers version checks, makes environments that hold a copy of itself, notes the rest.
PYTHON = """#!/bin/sh
case "$1$2" in
    -cimport*version_info*) [ "{version}" = 3.10 ] ;;
    -cimport*executable*) echo "{version} at $0" ;;
    -mvenv)
        echo venv >>"$NOTES"
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python"
        printf '#!/bin/sh\\necho "uv $*" >>"$NOTES"\\nexit ${{UV_EXIT:-0}}\\n' >"$4/bin/uv"
        chmod +x "$4/bin/uv"
        ;;
    -mpip)
        case "$*" in *--version*) exit 0 ;; esac
        echo "pip $*" >>"$NOTES"
        exit ${{PIP_EXIT:-0}}
        ;;
    -I-m) shift 2; echo "ran: $*"; echo "in: $(pwd)" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
#: pyenv's shim for a version that is installed but not chosen.
SHIM = "#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n"


@dataclass
class Machine:
    """A checkout in a directory with a space, and a PATH that holds nothing but what the test puts there."""

    root: Path
    path: Path
    home: Path
    notes: Path

    def program(self, where: Path, text: str) -> Path:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        where.chmod(0o755)
        return where

    def python(self, where: Path | str, version: str = "3.10") -> Path:
        return self.program(self.path / where, PYTHON.format(version=version))

    def run(self, *arguments: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(script or self.root / "vamos"), *arguments],
            env={"PATH": str(self.path), "HOME": str(self.home), "NOTES": str(self.notes), **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def done(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "my projects" / "vamos"
    root.mkdir(parents=True)
    for name in ("vamos", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    path, home = tmp_path / "bin", tmp_path / "home"
    path.mkdir()
    home.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is missing here"
        (path / tool).symlink_to(found)
    return Machine(root, path, home, tmp_path / "notes")


def test_the_first_call_installs_and_passes_the_arguments_on(machine: Machine) -> None:
    machine.python("python3.10")
    done = machine.run("demo", "--queue", "Suporte técnico")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ran: plugin.cli demo --queue Suporte técnico\nin: {machine.home}\n"
    assert machine.done()[0] == "venv"
    assert machine.done()[-1].startswith("uv pip install")
    assert ".[rasa,postgresql,dev]" in machine.done()[-1]


def test_the_second_call_installs_nothing(machine: Machine) -> None:
    machine.python("python3.10")
    machine.run("--help")
    before = machine.done()
    done = machine.run("--help")
    assert (done.stdout, done.stderr) == (f"ran: plugin.cli --help\nin: {machine.home}\n", "")
    assert machine.done() == before


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_dependencies_installs_again_into_the_same_environment(machine: Machine, file: str) -> None:
    machine.python("python3.10")
    machine.run()
    with open(machine.root / file, "a") as stream:
        stream.write("# another\n")
    machine.run()
    assert machine.done().count("venv") == 1
    assert len([line for line in machine.done() if line.startswith("uv pip install")]) == 2


def test_a_moved_checkout_installs_again_because_scripts_hold_its_path(machine: Machine) -> None:
    machine.python("python3.10")
    machine.run()
    moved = machine.root.with_name("elsewhere")
    machine.root.rename(moved)
    assert machine.run(script=moved / "vamos").returncode == 0
    assert len([line for line in machine.done() if line.startswith("uv pip install")]) == 2


def test_it_works_through_a_relative_link_from_another_directory(machine: Machine) -> None:
    machine.python("python3.10")
    link = machine.home / "shortcut"
    link.symlink_to(os.path.relpath(machine.root / "vamos", machine.home))
    assert machine.run("--help", script=link).stdout.startswith("ran: plugin.cli --help")
    assert (machine.root / ".venv" / ".vamos-installed").exists()


def test_a_pyenv_shim_that_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.program(machine.path / "python3.10", SHIM)
    machine.python("python3", "3.11")
    wanted = machine.python(machine.home / ".pyenv/versions/3.10.13/bin/python3.10")
    assert f"3.10 at {wanted}" in machine.run().stderr


def test_pyenv_root_is_searched(machine: Machine) -> None:
    wanted = machine.python(machine.home / "opt/pyenv/versions/3.10.4/bin/python3.10")
    assert f"3.10 at {wanted}" in machine.run(PYENV_ROOT=str(machine.home / "opt/pyenv")).stderr


def test_uv_is_asked_for_its_pythons(machine: Machine) -> None:
    wanted = machine.python(machine.home / "uv pythons/python3.10")
    machine.program(machine.path / "uv", f'#!/bin/sh\n[ "$1 $2" = "python find" ] && echo "{wanted}"\n')
    assert f"3.10 at {wanted}" in machine.run().stderr


def test_python3_is_taken_when_it_is_3_10(machine: Machine) -> None:
    wanted = machine.python("python3")
    assert f"3.10 at {wanted}" in machine.run().stderr


def test_without_3_10_it_says_how_to_get_one(machine: Machine) -> None:
    machine.python("python3", "3.12")
    done = machine.run("run")
    assert done.returncode == 1
    assert done.stdout == ""
    for way in ("uv python install 3.10", "pyenv install 3.10", "brew install python@3.10", "deadsnakes"):
        assert way in done.stderr
    assert not (machine.root / ".venv").exists()


def test_a_named_python_of_another_version_is_refused(machine: Machine) -> None:
    machine.python("python3.10")
    wrong = machine.python("python3.12", "3.12")
    done = machine.run(VAMOS_PYTHON=str(wrong))
    assert done.returncode == 1
    assert "is not a Python 3.10" in done.stderr


def test_pip_is_used_when_uv_fails(machine: Machine) -> None:
    machine.python("python3.10")
    done = machine.run(UV_EXIT="2")
    assert done.returncode == 0, done.stderr
    assert machine.done()[-1].startswith("pip -m pip install")
    assert ".[rasa,postgresql,dev]" in machine.done()[-1]


def test_an_installation_that_failed_is_taken_up_again(machine: Machine) -> None:
    machine.python("python3.10")
    failed = machine.run(UV_EXIT="2", PIP_EXIT="1")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "run ./vamos again" in failed.stderr
    assert machine.run().stdout.startswith("ran: plugin.cli")
    assert machine.done().count("venv") == 1


def test_an_environment_broken_half_way_is_made_anew(machine: Machine) -> None:
    machine.python("python3.10")
    machine.program(machine.root / ".venv/bin/python", "#!/bin/sh\nexit 1\n")
    assert machine.run().returncode == 0
    assert machine.done()[0] == "venv"


def test_a_place_that_cannot_be_written_is_named(machine: Machine) -> None:
    machine.python("python3.10")
    (machine.home / "file").touch()
    done = machine.run(VAMOS_VENV=str(machine.home / "file" / "venv"))
    assert done.returncode == 1
    assert f"can't write to {machine.home}/file/venv" in done.stderr
    assert "VAMOS_VENV" in done.stderr
