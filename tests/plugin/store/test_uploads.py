"""What becomes of uploads whose process was killed, on each kind of database."""

from __future__ import annotations

from plugin.store import Store
from plugin.testing.scenario import Scenario

_HOUR = 3600


def _begin(scenario: Scenario, rows: int) -> str:
    """An upload that is being read, with so many rows so far."""
    store = scenario.store
    upload = store.begin_upload(
        operation_id=scenario.operation,
        template_id=scenario.templates["without_button"],
        user_id=scenario.operator.user_id,
        filename="contatos.csv",
        sha256="0" * 64,
    )
    accepted = [(n, n + 1, f"+55319{n:08}", f"+55319{n:08}", "{}", "") for n in range(1, rows + 1)]
    store.add_upload_rows(upload, accepted, [])
    return upload


def _begun_ago(scenario: Scenario, upload: str, seconds: int) -> None:
    with scenario.store.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE upload SET created_at = created_at - {seconds * 1_000_000} WHERE id = '{upload}'"
        )


def test_an_upload_whose_process_was_killed_goes_with_its_rows_and_no_other_does(store: Store) -> None:
    scenario = Scenario(store)
    abandoned, also, running, ready, unreadable = (_begin(scenario, rows) for rows in (3, 0, 3, 3, 3))
    for old in (abandoned, also, ready, unreadable):
        _begun_ago(scenario, old, 2 * _HOUR)
    store.finish_upload(ready)
    store.refuse_upload(unreadable, {"code": "no_rows", "message": "", "remedy": "", "line": 0})
    assert store.drop_abandoned_uploads(3 * _HOUR) == 0
    assert store.drop_abandoned_uploads(_HOUR) == 2
    assert [store.upload(one) is not None for one in (abandoned, also, running, ready, unreadable)] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert [len(store.upload_rows(one)) for one in (abandoned, running, ready)] == [0, 3, 3]
    assert store.drop_abandoned_uploads(_HOUR) == 0
