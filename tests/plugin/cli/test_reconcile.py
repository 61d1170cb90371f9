"""`vamos reconcile` and what `vamos doctor` says about broadcasts on hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin.cli.__main__ import main
from plugin.store import Store
from plugin.testing.scenario import Scenario
from plugin.usecases.reconcile import PUT_BACK


@pytest.fixture
def scenario(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    (tmp_path / "vamos.yml").write_text(f"database: {sqlite_url}\n")
    (tmp_path / "credentials.yml").write_text("rest:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAMOS_CONFIG", raising=False)
    store = Store(sqlite_url)
    yield Scenario(store)
    store.close()


def held(scenario: Scenario, rows: int) -> str:
    broadcast = scenario.launch([scenario.number() for _ in range(rows)])
    with scenario.store.write() as connection:
        scenario.store.raise_alarm(connection, PUT_BACK)
    return broadcast


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_without_arguments_it_lists_what_is_on_hold_and_why(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "reconcile") == (0, "No broadcast is on hold.\n")
    broadcast = held(scenario, 3)
    code, said = run(capsys, "reconcile")
    assert code == 0
    assert broadcast in said
    assert "3 rows wait" in said
    assert "The database went back in time" in said


def test_doctor_finds_a_hold_wrong_and_says_what_to_do(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    assert "broadcasts: none on hold" in run(capsys, "doctor")[1]
    held(scenario, 2)
    code, said = run(capsys, "doctor")
    assert code == 1
    assert "WRONG   broadcasts: 1 on hold: contatos.csv of Suporte Fibra (2 rows wait)" in said
    assert "vamos reconcile" in said
    assert "The database went back in time" in said


def test_one_or_all_are_decided_about(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = held(scenario, 1), held(scenario, 2)
    code, said = run(capsys, "reconcile", one, "--rows", "send")
    assert code == 1
    assert "gets it again" in said, "the risk is spelled out"
    assert run(capsys, "reconcile", one, "--rows", "send", "--accept-risk")[0] == 0
    code, said = run(capsys, "reconcile", "all", "--rows", "unknown")
    assert code == 0
    assert f"{two} contatos.csv: 2 rows taken for unknown" in said
    assert one not in said
    with scenario.store.read() as connection:
        states = dict(connection.exec_driver_sql("SELECT state, COUNT(*) FROM delivery GROUP BY state").all())
    assert states == {"queued": 1, "unknown": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense", "--rows", "unknown"), "'nonsense'"),
        (("all",), "--rows unknown or --rows send"),
        (("--rows", "unknown"), "No broadcast is named"),
    ],
)
def test_a_mistake_changes_nothing_and_names_the_remedy(
    scenario: Scenario, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    held(scenario, 1)
    code, said = run(capsys, "reconcile", *arguments)
    assert code == 1
    assert words in said
    assert "1 rows wait" in run(capsys, "reconcile")[1]
