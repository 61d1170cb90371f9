"""Setting up an installation from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugin.cli.__main__ import main

CREDENTIALS = """
channels.loopback.LoopbackInput:
  sender: "111"
  secret: a-secret
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vamos.yml").write_text("database: sqlite:///v.db\n")
    (tmp_path / "credentials.yml").write_text(CREDENTIALS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAMOS_CONFIG", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_an_operation_is_made_with_queues_and_agents_on_the_only_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "user", "add", "ana", "--name", "Ana", "--grant", "desk.attend")[0] == 0
    code, said = run(capsys, "operation", "add", "Vendas", "--queue", "Novos", "--push", "Novos", "--agent", "Ana")
    assert (code, said) == (0, "Vendas (number 111)\n  queue Novos (push)\n  agent Ana\n")
    assert run(capsys, "operation", "add", "Vendas", "--queue", "Antigos")[0] == 0
    assert run(capsys, "operation", "list")[1].count("queue") == 2


def test_without_an_operation_the_list_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "operation", "list")
    assert code == 0
    assert "vamos operation add" in said


def test_an_unknown_agent_is_named_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "operation", "add", "Vendas", "--queue", "Novos", "--agent", "bia")
    assert code == 1
    assert "'bia'" in said
    assert "vamos user add bia" in said


def test_several_numbers_must_be_told_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "credentials.yml").write_text("rest:\n")
    code, said = run(capsys, "operation", "add", "Vendas")
    assert code == 1
    assert "--number" in said


def test_templates_are_fetched_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "operation", "templates")
    assert (code, said) == (0, "0 templates, 0 approved.\n")
