"""How fast an upload is read, against the least that could be done with the same file.

``python -m benchmarks.intake --rows 1000000 [--database postgresql://…]``

The bare insert is `csv.reader` and `executemany` (COPY on PostgreSQL) into a table of the same shape and indexes,
nothing checked: what reading and storing alone cost. Both run in this process, on the same database.
"""

from __future__ import annotations

import argparse
import csv
import gc
import itertools
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.template import Template
from plugin.domain.upload import Limits, Upload
from plugin.store import Store
from plugin.store.database import new_id
from plugin.store.tables import app_user, upload_row
from plugin.usecases.intake import take_upload

_NAMES = ("Ana", "João", "Conceição", "Bruno", "Érica", "Davi", "Maria Aparecida", "Luís", "Íris", "Heitor")
_LAST = ("Souza", "Lima", "Álvares", "Prado", "Sant'Anna", "Rocha", "Muniz", "Brandão")
_FORMS = ("55{}{}", "({}) {}", "+55 {} {}", "{}{}", "0{} {}")


def _write(path: Path, rows: int, seed: int) -> None:
    """A list as operators have it: five columns, five ways of writing a number, 2 % bad, 1 % repeated."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["telefone", "nome", "valor", "vencimento", "contrato"])
        previous = ""
        for number in range(rows):
            chance = draw.random()
            phone = draw.choice(_FORMS).format(draw.choice(("11", "21", "31", "51", "71", "85")), f"9{number:08}")
            if chance < 0.02:
                phone = draw.choice(("5,531999E+12", "99876-5432", "", "ana@example.com"))
            elif chance < 0.03:
                phone = previous
            previous = phone
            name = f"{draw.choice(_NAMES)} {draw.choice(_LAST)}"
            writer.writerow(
                [phone, name, f"R$ {draw.randrange(40, 400)},90", f"{draw.randrange(1, 29):02}/12/2026", number]
            )


def _bare(store: Store, path: Path, upload_id: str) -> int:
    """`csv.reader` and bulk insert; the variables as the text they are."""
    total = 0
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        while batch := list(itertools.islice(reader, 10_000)):
            rows = [(n, n + 1, cells[0], cells[0], cells[1], None) for n, cells in enumerate(batch, total + 1)]
            store.add_upload_rows(upload_id, rows, ())
            total += len(batch)
    return total


def _memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Peak:
    """The most memory held inside the block, above what was held before, in MiB."""

    mib = 0.0

    def __enter__(self) -> _Peak:
        gc.collect()
        self._idle = _memory()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._run)
        self._watch.start()
        return self

    def _run(self) -> None:
        while not self._done.wait(0.02):
            self.mib = max(self.mib, (_memory() - self._idle) / 2**20)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()


def _operator(store: Store) -> tuple[Principal, str, str]:
    operation = store.add_operation(f"Benchmark {new_id()}", "1")
    user = new_id()
    with store.write() as connection:
        connection.execute(insert(app_user).values(id=user, login=user, name="Benchmark", disabled=False, created_at=0))
    body = "Olá {{1}}, sua fatura de {{2}} vence em {{3}}."
    raw = {"name": "benchmark", "language": "pt_BR", "components": [{"type": "BODY", "text": body}]}
    store.upsert_templates("benchmark", [Template.from_meta(raw)])
    principal = Principal(user, "benchmark", "Benchmark", frozenset({(operation, BROADCAST)}))
    return principal, operation, store.templates("benchmark")[0].id


def _measure(kind: str, url: str, path: Path, rows: int) -> tuple[dict[str, Any], Upload | None]:
    """Store the file at `path` once, as `kind` does it."""
    store = Store(url)
    store.migrate()
    principal, operation, template = _operator(store)
    values: dict[str, Any] = {
        "operation_id": operation, "template_id": template, "filename": path.name, "sha256": "0" * 64,
    }  # fmt: skip
    upload: Upload | None = None
    with _Peak() as peak:
        begin = time.perf_counter()
        if kind == "bare":
            upload_id = store.begin_upload(user_id=principal.user_id, **values)
            assert _bare(store, path, upload_id) == rows
        else:
            upload = take_upload(store, principal, path=path, limits=Limits(bytes=2**40, rows=2**40), **values)
            upload_id = upload.id
        seconds = time.perf_counter() - begin
    with store.write() as connection:
        connection.execute(delete(upload_row).where(upload_row.c.upload_id == upload_id))
    store.close()
    return {
        f"{kind}_rows_per_second": round(rows / seconds),
        f"{kind}_peak_mib_above_idle": round(peak.mib, 1),
    }, upload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="a PostgreSQL address; default: SQLite files in a temporary folder")
    options = parser.parse_args()
    result: dict[str, Any] = {"rows": options.rows, "seed": options.seed}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "contacts.csv"
        _write(path, options.rows, options.seed)
        result["megabytes"] = round(path.stat().st_size / 1e6, 1)
        for kind in ("bare", "intake"):
            # A file of its own on SQLite, so that neither finds the other's pages in the way.
            measured, upload = _measure(kind, options.database or f"sqlite:///{folder}/{kind}.db", path, options.rows)
            result.update(measured)
    assert upload is not None
    assert upload.rows == options.rows == upload.accepted + upload.rejected + sum(upload.skipped.values())
    result["ratio"] = round(result["intake_rows_per_second"] / result["bare_rows_per_second"], 2)
    result.update(accepted=upload.accepted, rejected=upload.rejected, skipped=dict(upload.skipped))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
