"""Connections, transactions and the schema, on each kind of database."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine

from plugin.errors import ConfigurationError
from plugin.store import Store, database, new_id
from plugin.store.tables import metadata


def test_the_migrations_make_exactly_the_tables_and_columns_of_the_code(store: Store) -> None:
    inspector = inspect(store.engine)
    assert set(inspector.get_table_names()) - {"alembic_version", "sqlite_sequence"} == set(metadata.tables)
    for name, table in metadata.tables.items():
        assert {c["name"] for c in inspector.get_columns(name)} == {c.name for c in table.columns}, name
        indexes = {i["name"] for i in inspector.get_indexes(name) if not i.get("duplicates_constraint")}
        assert {i.name for i in table.indexes} <= indexes, name


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_migrations_make_the_indexes_of_the_code_with_their_columns_and_conditions(
    store: Store, tmp_path: Path
) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}", future=True)
    metadata.create_all(made)
    assert _indexes(store.engine) == _indexes(made)


def _indexes(engine: Engine) -> dict[str, str]:
    """What each index is on, as SQLite has it written down, without what may be written or left out."""
    found = text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    with engine.connect() as connection:
        return {name: re.sub(r'["\s]|\w+\.', "", sql) for name, sql in connection.execute(found)}


def test_a_commit_to_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    # By the product's own hand: the engines of all other tests are told not to wait for the disk.
    engine = database._sqlite(f"sqlite:///{tmp_path / 'v.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


def test_a_process_that_starts_does_not_wait_for_writers_when_there_is_nothing_to_migrate(database_url: str) -> None:
    busy, starting = Store(database_url), Store(database_url)
    try:
        with busy.write() as connection:
            connection.execute(text("INSERT INTO meta (key, value) VALUES ('x', '')"))
            starter = threading.Thread(target=starting.migrate, daemon=True)
            starter.start()
            starter.join(5)
            assert not starter.is_alive()
        starter.join()
    finally:
        busy.close()
        starting.close()


def test_processes_that_start_at_once_migrate_one_database_once(empty_database_url: str) -> None:
    script = "import sys; from plugin.store import Store; s = Store(sys.argv[1]); s.migrate(); s.close()"
    children = [
        subprocess.Popen([sys.executable, "-c", script, empty_database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outcomes = [(child.wait(60), child.communicate()[1]) for child in children]
    assert [code for code, _ in outcomes] == [0] * 3, outcomes
    opened = Store(empty_database_url)
    assert set(inspect(opened.engine).get_table_names()) >= set(metadata.tables)
    opened.close()


def test_a_database_of_a_newer_version_is_refused_with_words(store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="newer Vamos"):
        store.migrate()


def test_a_failed_transaction_leaves_nothing_behind(store: Store) -> None:
    def fail_half_way() -> None:
        with store.write() as connection:
            connection.exec_driver_sql("INSERT INTO meta (key, value) VALUES ('k', 'v')")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert store.meta("k", "fresh") == "fresh"


def test_writers_of_many_threads_wait_for_one_another(store: Store) -> None:
    def count() -> None:
        for _ in range(20):
            with store.write() as connection:
                store.count_fact(connection, "n", 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.facts() == {"n": 160}


def test_the_first_value_of_a_key_wins_for_ever(store: Store) -> None:
    assert store.meta("button_key", "one") == "one"
    assert store.meta("button_key", "two") == "one"


def test_ids_are_random_sortable_by_time_and_shaped_as_uuid_version_7() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(len(i), i[12], i[16] in "89ab") for i in ids} == {(32, "7", True)}
    assert [i[:12] for i in ids] == sorted(i[:12] for i in ids)


def test_a_sqlite_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    opened = Store(f"sqlite:///{tmp_path / 'new' / 'vamos.db'}")
    opened.migrate()
    opened.close()
    assert (tmp_path / "new" / "vamos.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense", ""])
def test_an_address_that_cannot_work_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Store(url)
    assert "sqlite:///" in error.value.remedy
