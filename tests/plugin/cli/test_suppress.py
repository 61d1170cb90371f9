"""Suppressing from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugin.cli.__main__ import main
from plugin.domain.address import InvalidAddress
from plugin.domain.causes import REFUSED


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vamos.yml").write_text("database: sqlite:///v.db\n")
    (tmp_path / "credentials.yml").write_text("rest:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAMOS_CONFIG", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["suppress", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_number_is_added_listed_undone_and_gone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "add", "(31) 9 9876-5432", "--note", "pediu ao telefone") == (0, "", "Suppressed.\n")
    assert run(capsys, "add", "+553198765432") == (0, "", "It was suppressed already.\n")
    code, said, _ = run(capsys, "list")
    assert code == 0
    assert '"(31) 99876-5432";"Incluído por uma pessoa";"pediu ao telefone"' in said
    assert run(capsys, "undo", "31998765432", "--reason", "pediu para voltar")[0] == 0
    assert run(capsys, "list")[1].count("\n") == 1
    code, _, said = run(capsys, "undo", "31998765432", "--reason", "de novo")
    assert code == 1
    assert "não está descadastrado" in said


def test_a_list_is_imported_and_its_bad_lines_are_shown_masked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "não perturbe.txt"
    file.write_text("31998765432\n98765-4321\n")
    code, out, said = run(capsys, "import", str(file))
    assert code == 1
    assert out == "line 2: *****-4321  The area code (DDD) is missing.\n"
    assert said == "2 lines: 1 added, 0 suppressed already, 1 refused.\n"
    assert '"não perturbe.txt"' in run(capsys, "list", "--source", "import", "--search", "perturbe")[1]
    assert run(capsys, "import", str(tmp_path))[0] == 1


def test_every_reason_to_refuse_a_number_has_english_words() -> None:
    codes = set(re.findall(r"phone_\w+", InvalidAddress.__doc__ or ""))
    assert len(codes) > 10
    assert codes | {"ragged_row"} <= set(REFUSED)
