"""Write a campaign's figures into docs/evidence.md, each under a heading of its own, the last run in place of the one
before."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.proof.world import emptied, scratch
from plugin.store import Store

FILE = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"


def arguments(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """Options that every campaign has: size, seed, database, JSON, and whether to write the figures down."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    for name, default in {**defaults, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--database",
        help="postgresql: a server of its own, from the binaries of this machine; postgresql://…: that one, whose rows"
        " are DELETED; default: a SQLite file of its own",
    )
    parser.add_argument("--json", action="store_true", help="only the result, as one line of JSON")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/evidence.md")
    return parser


@contextmanager
def database(given: argparse.Namespace) -> Iterator[str]:
    """The address of a migrated database without rows."""
    with ExitStack() as stack:
        if not given.database:
            folder = scratch()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            url = f"sqlite:///{folder / 'vamos.db'}"
        elif given.database == "postgresql":
            from tests.conftest import Cluster

            cluster = Cluster()
            stack.callback(cluster.stop)
            url = cluster.create("vamos_proof")
        else:
            url = given.database
        store = Store(url)
        stack.callback(store.close)
        store.migrate()
        if given.database:
            emptied(store)
        store.engine.dispose()
        yield url


def finish(given: argparse.Namespace, name: str, title: str, figures: Mapping[str, Any]) -> None:
    """Print the result, and write it down if asked to."""
    print(json.dumps(figures) if given.json else "  ".join(f"{k}: {v}" for k, v in figures.items()), flush=True)
    if given.record:
        kind = "PostgreSQL" if given.database else "SQLite"
        command = re.sub(r"postgresql://\S+", "postgresql://…", " ".join(["python -m", f"benchmarks.proof.{name}"] + [
            a for a in sys.argv[1:] if a not in ("--record", "--json")]))  # fmt: skip
        record(f"{title}, {kind}", command, figures)


def record(title: str, command: str, figures: Mapping[str, Any], file: Path = FILE) -> None:
    """Put a section into the file, in place of one of the same title."""
    text = file.read_text(encoding="utf-8") if file.exists() else _HEAD
    table = "\n".join(["| what | figure |", "|---|---|", *(f"| {k} | {v} |" for k, v in figures.items())])
    section = f"## {title}\n\n`{command}`  \n{_where()}\n\n{table}\n"
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found:
        text = text[: found.start()] + section + ("\n" if found.end() < len(text) else "") + text[found.end() :]
    else:
        text = f"{text.rstrip()}\n\n{section}"
    file.write_text(text, encoding="utf-8")


def _where() -> str:
    today = datetime.now(timezone.utc).date().isoformat()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30 if hasattr(os, "sysconf") else 0
    return (
        f"{today}, {os.cpu_count()} cores ({platform.machine()}), {pages:.0f} GB of memory,"
        f" {platform.system()}, Python {platform.python_version()}"
    )


_HEAD = """# Evidence

Figures with the command that makes them. The campaigns write their own sections (`--record`); the same seed plays the
same choices, though threads and processes meet in another order each time.
"""
