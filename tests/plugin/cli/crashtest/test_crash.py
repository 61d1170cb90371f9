"""The crash test itself: small runs of the whole thing, and proof that it finds a dispatcher that breaks a promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from plugin.cli import crash as command
from plugin.cli.__main__ import main
from plugin.cli.crashtest.plan import POINTS
from plugin.cli.crashtest.run import Options, crash
from plugin.errors import ConfigurationError
from plugin.store import Store, tables
from plugin.store.database import Database
from plugin.testing.scenario import Scenario
from plugin.usecases.access import create_user
from plugin.usecases.setup import create_operation

ROOT = Path(__file__).parents[4]

#: The dispatcher of which everybody's first draft consists: what a crash left behind is sent again.
RECKLESS = """
from sqlalchemy import text
from plugin.store import Store

#: What its predecessor claimed last, whatever has been heard of it since.
AGAIN = text(
    "UPDATE delivery SET state = 'queued' WHERE state IN ('unknown', 'sent', 'delivered', 'read')"
    " AND epoch < (SELECT MAX(epoch) FROM dispatcher)"
    " AND claimed_at > (SELECT MAX(claimed_at) FROM delivery) - 100000"
)


class Reckless(Store):
    def recover_crashed(self, *arguments, **named):
        found = super().recover_crashed(*arguments, **named)
        with self.write() as connection:
            connection.execute(AGAIN)
        return found
"""
#: One that takes for granted that everything arrived.
HOPEFUL = """
from sqlalchemy import text
from plugin.store import Store


class Hopeful(Store):
    def recover_crashed(self, *arguments, **named):
        found = super().recover_crashed(*arguments, **named)
        with self.write() as connection:
            connection.execute(text("UPDATE delivery SET state = 'sent' WHERE error_code = 'crash'"))
        return found
"""
#: One that gives up whom it can't be bothered to send to, in so many ways that no alarm goes off.
QUITTING = """
from dataclasses import replace
from sqlalchemy import text
from plugin.store import Store


class Quitting(Store):
    def claim_deliveries(self, *arguments, **named):
        claim = super().claim_deliveries(*arguments, **named)
        with self.write() as connection:
            for row in claim.rows[::2]:
                connection.execute(
                    text("UPDATE delivery SET state = 'failed', error_code = :code WHERE id = :id"),
                    {"id": row.id, "code": str(131000 + row.id % 7)},
                )
        return replace(claim, rows=claim.rows[1::2])
"""

#: What the issue asks for, in this order.
FIGURES = [
    "kills", "recipients", "lost", "duplicate_acknowledged", "unknown_total", "unknown_max_per_crash", "window",
    "settled_by_webhook", "never_reached_provider", "seconds",
]  # fmt: skip


def check(figures: dict[str, Any], wrong: list[str], kills: int) -> None:
    print(json.dumps(figures))
    assert wrong == []
    assert list(figures)[: len(FIGURES)] == FIGURES
    assert (figures["kills"], figures["lost"], figures["duplicate_acknowledged"]) == (kills, 0, 0)
    assert (figures["unsettled"], figures["misreported"], figures["unknown_after_drain"]) == (0, 0, 0)
    assert 0 < figures["unknown_max_per_crash"] <= figures["window"]
    still = figures["never_reached_provider"] + figures["refused_unread"]
    assert figures["unknown_total"] == figures["settled_by_webhook"] + still
    assert sum(figures["states"].values()) == figures["recipients"] + figures["states"]["rejected"] * 2
    assert sum(figures["points"].values()) == kills


def test_eight_kills_cost_nobody_a_message(tmp_path: Path) -> None:
    figures, wrong = crash(Options(tmp_path, kills=8, recipients=160, freezes=0, seed=11))
    check(figures, wrong, 8)
    assert figures["drained"] >= 1


@pytest.mark.full
def test_twenty_kills_at_every_point_on_sqlite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crash-test", "--kills", "20", "--recipients", "1000", "--seed", "5", "--json"]) == 0
    out, said = capsys.readouterr()
    figures = json.loads(out)
    check({name: value for name, value in figures.items() if name != "problems"}, figures["problems"], 20)
    assert set(figures["points"]) >= set(POINTS)
    assert figures["frozen"] == 1
    assert "As promised" in said


@pytest.mark.full
def test_two_dispatchers_on_postgresql(tmp_path: Path, postgresql_cluster: Any) -> None:
    url = postgresql_cluster.create("vamos_crash")
    figures, wrong = crash(Options(tmp_path, kills=10, recipients=600, database=url, dispatchers=2, freezes=1, seed=6))
    check(figures, wrong, 10)
    assert figures["database"] == "postgresql"
    database = Database(url)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == []  # left as it was found
    database.close()
    postgresql_cluster.drop("vamos_crash")


@pytest.mark.full
@pytest.mark.parametrize(
    ("source", "name", "figure"),
    [
        (RECKLESS, "Reckless", "duplicate_acknowledged"),
        (HOPEFUL, "Hopeful", "lost"),
        (QUITTING, "Quitting", "lost"),
    ],
    ids=["sends again", "hopes", "gives up"],
)
def test_a_dispatcher_that_breaks_its_promise_is_found(tmp_path: Path, source: str, name: str, figure: str) -> None:
    (tmp_path / "broken.py").write_text(source)
    figures, wrong = crash(
        Options(
            tmp_path / "run", kills=12, recipients=400, freezes=0, seed=7, store=f"broken:{name}",
            python_path=f"{tmp_path}:{ROOT}",
        )
    )  # fmt: skip
    assert figures[figure] > 0
    assert wrong


def test_a_database_that_is_not_empty_is_refused_and_not_touched(scenario: Scenario, tmp_path: Path) -> None:
    broadcast = scenario.launch([scenario.number()])
    scenario.send_all(broadcast)
    with pytest.raises(ConfigurationError, match=r"is in use: .*\bbroadcast\b.*\bdelivery\b"):
        crash(Options(tmp_path / "run", kills=1, recipients=10, database=scenario.store.url))
    with scenario.store.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM broadcast").scalar_one() == 1


@pytest.mark.parametrize("what", ["app_user", "operation", "contact", "opt_out"])
def test_a_database_with_people_but_no_broadcasts_is_refused_and_not_touched(
    store: Store, tmp_path: Path, what: str
) -> None:
    if what == "app_user":
        create_user(store, "ana", "Ana", [])
    elif what == "operation":
        create_operation(store, "Vendas", "100")
    elif what == "opt_out":
        store.suppress_all(["+5531998765432"], "import", detail="", user_id=None)
    else:
        with store.write() as connection:
            connection.execute(
                tables.contact.insert().values(id="c" * 32, channel="whatsapp", sender="100", created_at=1)
            )
    with pytest.raises(ConfigurationError, match=rf"is in use: .*\b{what}\b") as raised:
        crash(Options(tmp_path / "run", kills=1, recipients=10, database=store.url))
    assert raised.value.remedy
    assert store.account("crash-test") is None


def test_a_database_that_does_not_answer_is_told_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "postgresql://vamos:geheim@127.0.0.1:9/name"
    assert main(["crash-test", "--kills", "1", "--recipients", "10", "--database", address]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:9/name can't be opened" in said
    assert "Check that the server runs" in said
    assert "geheim" not in said


def test_a_database_on_which_somebody_sends_is_refused(store: Store, tmp_path: Path) -> None:
    store.register_dispatcher("elsewhere", 1, "", 60)
    with pytest.raises(ConfigurationError, match="dispatcher is working"):
        crash(Options(tmp_path / "run", kills=1, recipients=10, database=store.url))


def test_a_database_of_something_else_is_refused(empty_database_url: str, tmp_path: Path) -> None:
    database = Database(empty_database_url)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE invoice (id INTEGER)")
    with pytest.raises(ConfigurationError, match="tables of something else"):
        crash(Options(tmp_path / "run", kills=1, recipients=10, database=empty_database_url))
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM invoice").scalar_one() == 0
    database.close()


def test_broken_promises_end_with_an_error_and_each_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "crash", lambda _options, _tick: ({"kills": 1, "lost": 2}, ["2 lost", "1 twice"]))
    assert main(["crash-test", "--json"]) == 1
    out, said = capsys.readouterr()
    assert json.loads(out) == {"kills": 1, "lost": 2, "problems": ["2 lost", "1 twice"]}
    assert "Not as promised:\n  2 lost\n  1 twice" in said
