"""How fast a report of many lines is downloaded and its page is counted.

``python -m benchmarks.export --rows 1000000 [--database postgresql://…]``

The download (`report_csv`) against the least that could be done: one `SELECT` of the same columns, all rows in one
cursor, straight into `csv.writer`. Then each query of the report's page and the list, its best of three, in
milliseconds. One broadcast: 3 % failed, 1 % refused, 5 % answered, 1 % answered beyond attribution.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.ledger import Ledger, launched, sent
from benchmarks.measure import Spent, apart, machine
from plugin.store import Store
from plugin.usecases.report import report_csv

_COLUMNS = (
    "d.line, d.address, d.state, d.reason, d.error_code, d.error, d.attempts, d.not_before, d.sent_at, d.delivered_at,"
    " d.read_at, d.failed_at, d.replied_at, i.text, i.outcome, i.proof"
)


def _make(url: str, rows: int) -> Ledger:
    store = Store(url)
    store.migrate()
    ledger = launched(store, rows)
    sent(store, ledger)
    with store.write() as connection:
        connection.execute(
            text("UPDATE delivery SET state = 'queued' WHERE broadcast_id = :b AND row = :n"),
            {"b": ledger.broadcast, "n": rows - 1},
        )
        connection.execute(text("ANALYZE"))
    store.close()
    return ledger


def _bare(store: Store, broadcast: str) -> int:
    """Bytes of the same columns as the database holds them."""
    size = 0
    statement = text(
        f"SELECT {_COLUMNS} FROM delivery d LEFT JOIN inbound i ON i.delivery_id = d.id AND i.interaction = :yes"
        " WHERE d.broadcast_id = :b ORDER BY d.row"
    )
    with store.read() as connection:
        streamed = connection.execution_options(stream_results=True)
        found = streamed.execute(statement, {"b": broadcast, "yes": True})
        while some := found.fetchmany(1000):
            piece = io.StringIO()
            csv.writer(piece, delimiter=";", quoting=csv.QUOTE_ALL).writerows(some)
            size += len(piece.getvalue().encode())
    return size


def _download(kind: str, url: str, ledger: Ledger) -> dict[str, Any]:
    store = Store(url)
    store.broadcast_facts(ledger.broadcast)  # connected
    with Spent() as spent:
        if kind == "bare":
            size = _bare(store, ledger.broadcast)
        else:
            size = sum(map(len, report_csv(store, ledger.principal, ledger.broadcast)))
    store.close()
    return {"seconds": spent.seconds, "cpu": spent.cpu, "mib": spent.mib, "bytes": size}


def _queries(url: str, ledger: Ledger, rows: int) -> dict[str, float]:
    """Milliseconds of each query, the best of three."""
    store = Store(url)
    one = ledger.broadcast
    queries: dict[str, Callable[[], object]] = {
        "delivery_counts": lambda: store.delivery_counts(one),
        "reply_counts": lambda: store.reply_counts(one),
        "failure_counts": lambda: store.failure_counts(one),
        "broadcasts_page": lambda: store.broadcasts_page("*", None, None, 50),
        "delivery_rows, first page": lambda: store.delivery_rows(one, None, 0, 100),
        "delivery_rows, last page": lambda: store.delivery_rows(one, None, rows - 100, 100),
        "delivery_rows, failed": lambda: store.delivery_rows(one, "failed", 0, 100),
        "delivery_rows, failed at the end": lambda: store.delivery_rows(one, "failed", rows - rows // 100, 100),
        "delivery_rows, read": lambda: store.delivery_rows(one, "read", 0, 100),
        "delivery_rows, the only one queued": lambda: store.delivery_rows(one, "queued", 0, 100),
        "finish_broadcasts, nothing to do": store.finish_broadcasts,
        "reopen_broadcasts, nothing to do": store.reopen_broadcasts,
    }
    found = {}
    for name, query in queries.items():
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            query()
            times.append(time.perf_counter() - begin)
        found[name] = round(min(times) * 1000, 1)
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", help="an empty PostgreSQL database; default: SQLite in a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.database or f"sqlite:///{Path(folder) / 'vamos.db'}"
        ledger = apart(_make, url, options.rows)
        bare, download = (apart(_download, kind, url, ledger) for kind in ("bare", "download"))
        queries = apart(_queries, url, ledger, options.rows)
    result = {
        "rows": options.rows,
        "database": options.database or "sqlite",
        "machine": machine(),
        "launch_seconds": round(ledger.launching, 2),
        "bare_rows_per_second": round(options.rows / bare["seconds"]),
        "download_rows_per_second": round(options.rows / download["seconds"]),
        "ratio": round(bare["seconds"] / download["seconds"], 2),
        "ratio_of_processor_time": round(bare["cpu"] / download["cpu"], 2),
        "megabytes": round(download["bytes"] / 1e6, 1),
        "download_peak_mib_above_idle": round(download["mib"], 1),
        "milliseconds": queries,
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
