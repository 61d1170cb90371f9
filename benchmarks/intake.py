"""How fast an upload is read, checked and stored, against a bare bulk insert of the same file.

``python -m benchmarks.intake --rows 1000000 [--rounds N] [--database postgresql://…]``

The bare insert: `csv.reader`, one tuple a line, and `executemany` in batches of 10,000 in one transaction
(COPY on PostgreSQL), into the same table. Nothing is checked, nothing repeated is looked for. ``inserting`` is the part
of its time in which rows were handed to the database: what it would take with the rows ready in memory.

Each measurement has a process of its own; bare insert and intake run in turn, and the ratios are medians over the
rounds: by the clock, and by processor time, which other work on the machine disturbs less. (On PostgreSQL the server's
processor time is not in it.)
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import delete

from benchmarks.measure import Spent, apart, machine
from benchmarks.people import operator
from plugin.domain.upload import Limits
from plugin.store import Store
from plugin.store.tables import upload_row
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


_COLUMNS = "row, line, address, canonical, variables, upload_id, state, reason"


def _bare(store: Store, path: Path, upload_id: str) -> float:
    """Store every line of the file as it stands; returns the seconds spent inserting."""
    inserting = 0.0
    number = 0
    statement = f"INSERT INTO upload_row ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, '{upload_id}', 'accepted', '')"
    with path.open(encoding="utf-8", newline="") as file, store.write() as connection:
        cursor = connection.connection.cursor()
        reader = csv.reader(file)
        next(reader)
        while batch := [
            (n, n + 1, phone, phone, f'{{"1":"{name}","2":"{value}","3":"{due}"}}')
            for n, (phone, name, value, due, _) in enumerate(itertools.islice(reader, 10_000), number + 1)
        ]:
            begin = time.perf_counter()
            if store.dialect == "sqlite":
                cursor.executemany(statement, batch)
            else:
                text = io.StringIO()
                csv.writer(text).writerows((*row, upload_id, "accepted", "") for row in batch)
                text.seek(0)
                cursor.copy_expert(
                    f"COPY upload_row ({_COLUMNS}) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (reason))", text
                )
            inserting += time.perf_counter() - begin
            number += len(batch)
    return inserting


def _measure(kind: str, url: str, path: Path) -> dict[str, Any]:
    """Store the file at `path` once, as `kind` does it."""
    store = Store(url)
    store.migrate()
    people = operator(store)
    values: dict[str, Any] = {
        "operation_id": people.operation, "template_id": people.template, "filename": path.name, "sha256": "0" * 64,
    }  # fmt: skip
    found: dict[str, Any] = {}
    with Spent() as spent:
        if kind == "bare":
            upload_id = store.begin_upload(user_id=people.principal.user_id, **values)
            found["inserting"] = _bare(store, path, upload_id)
        else:
            upload = take_upload(store, people.principal, path=path, limits=Limits(bytes=2**40, rows=2**40), **values)
            upload_id = upload.id
            assert upload.rows == upload.accepted + upload.rejected + sum(upload.skipped.values())
            found |= {"accepted": upload.accepted, "rejected": upload.rejected, "skipped": dict(upload.skipped)}
    with store.write() as connection:
        connection.execute(delete(upload_row).where(upload_row.c.upload_id == upload_id))
    store.close()
    return {**found, "seconds": spent.seconds, "cpu": spent.cpu, "mib": spent.mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="a PostgreSQL address; default: SQLite files in a temporary folder")
    options = parser.parse_args()
    bare: list[dict[str, Any]] = []
    intake: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "contacts.csv"
        _write(path, options.rows, options.seed)
        for turn in range(options.rounds):
            for kind, results in (("bare", bare), ("intake", intake)):
                # A file of its own on SQLite, so that neither finds the other's pages in the way.
                url = options.database or f"sqlite:///{folder}/{kind}{turn}.db"
                results.append(apart(_measure, kind, url, path))
    last = intake[-1]
    assert options.rows == last["accepted"] + last["rejected"] + sum(last["skipped"].values())

    def ratio(part: str, whole: str) -> float:
        ratios: list[float] = [one[part] / other[whole] for one, other in zip(bare, intake, strict=True)]
        return round(median(ratios), 2)

    def speed(results: list[dict[str, Any]]) -> int:
        seconds: list[float] = [one["seconds"] for one in results]
        return round(float(options.rows) / median(seconds))

    result = {
        "rows": options.rows,
        "rounds": options.rounds,
        "seed": options.seed,
        "database": options.database or "sqlite",
        "machine": machine(),
        "bare_rows_per_second": speed(bare),
        "intake_rows_per_second": speed(intake),
        "ratio": ratio("seconds", "seconds"),
        "ratio_of_processor_time": ratio("cpu", "cpu"),
        "ratio_to_inserting_alone": ratio("inserting", "seconds"),
        "bare_peak_mib_above_idle": round(max(one["mib"] for one in bare), 1),
        "intake_peak_mib_above_idle": round(max(one["mib"] for one in intake), 1),
        **{name: last[name] for name in ("accepted", "rejected", "skipped")},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
