"""The file beside the settings that remembers how far the database had come, and its comparison at each heartbeat.

The database can't know that it was put back from a backup; a file outside it can. See `plugin.usecases.reconcile`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from plugin.store import Store
from plugin.usecases.reconcile import Advanced, Mark, advance, begin

log = logging.getLogger(__name__)

#: Seconds that a dispatcher without a file looks for another one that vouches for the database: two heartbeats.
PATIENCE = 5.0
#: Seconds between two notes of claims: each costs a third of a millisecond.
NOTE_EVERY = 0.1
#: A file whose own times differ by more than so many seconds from those written in it was copied, not written, here.
_COPIED = 3.0
_COPIED_KEEPING_TIMES = 60.0
#: Longest wait for another process of this machine that is writing the file, and how often it is looked at.
_LOCK_SECONDS = 1.0
_LOCK_STEP = 0.01


class Sidecar:
    """The file: {installation, generation, claims, system, timeline, synchronous, at}.

    Written whole or not at all, for the owner's eyes only, by several processes of one machine. A backup of the whole
    directory takes it along: one that was put back counts as missing, told by its times (its modification time is
    set to `at` on purpose, and nobody can set the time of its last change).
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._unreadable = ""

    def read(self) -> Mark | None:
        """The mark, or None: missing, broken or copied; which one is said in the log."""
        try:
            with open(self.file, encoding="utf-8") as opened:
                status = os.fstat(opened.fileno())
                values = json.load(opened)
            mark, at = _mark(values), float(values["at"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._say(f"can't be read ({type(error).__name__}: {error})")
            return None
        if os.name == "posix" and (
            abs(status.st_mtime - at) > _COPIED or status.st_ctime - status.st_mtime > _COPIED_KEEPING_TIMES
        ):
            self._say("was copied or changed by somebody else")
            return None
        self._unreadable = ""
        return mark

    def _say(self, why: str) -> None:
        if why != self._unreadable:
            log.warning("%s %s: it counts as missing", self.file, why)
        self._unreadable = why

    def write(self, mark: Mark) -> None:
        """Remember `mark`; of two marks of one installation, the further one.

        Raises:
            OSError: the folder can't be written to.
        """
        with self._locked():
            known = self.read()
            if known is not None and known.installation == mark.installation:
                most = {s: max(known.claims.get(s, 0), mark.claims.get(s, 0)) for s in {*known.claims, *mark.claims}}
                further = known if known.generation > mark.generation else mark
                mark = replace(further, claims=most)
            self._replace(mark)

    def note_claims(self, installation: str, sender: str, claims: int) -> None:
        """Remember a claim before its bytes leave. Nothing is written for another installation, or without a file.

        Raises:
            OSError: the folder can't be written to.
        """
        with self._locked():
            known = self.read()
            if known is not None and known.installation == installation and known.claims.get(sender, 0) < claims:
                self._replace(replace(known, claims={**known.claims, sender: claims}))

    def _replace(self, mark: Mark) -> None:
        at = time.time()
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as opened:
                json.dump({**_values(mark), "at": at}, opened)
            os.utime(draft, (at, at))
            draft.replace(self.file)
        finally:
            draft.unlink(missing_ok=True)

    def _lock(self, descriptor: int) -> None:
        """Wait for the others, but not for ever: a frozen process must not stop those that work.

        Raises:
            OSError: somebody has held the lock for too long.
        """
        for _ in range(int(_LOCK_SECONDS / _LOCK_STEP)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_STEP)
            else:
                return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{self.file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)


def _values(mark: Mark) -> dict[str, Any]:
    return {
        "installation": mark.installation,
        "generation": mark.generation,
        "claims": dict(mark.claims),
        "system": mark.system,
        "timeline": mark.timeline,
        "synchronous": mark.synchronous,
    }


def _mark(values: Mapping[str, Any]) -> Mark:
    return Mark(
        installation=str(values["installation"]),
        generation=int(values["generation"]),
        claims={str(sender): int(claims) for sender, claims in values["claims"].items()},
        system=str(values["system"]),
        timeline=str(values["timeline"]),
        synchronous=bool(values["synchronous"]),
    )


class Fence:
    """One dispatcher's watch over its database. `note` and `beat` may run at the same time: both only lag behind."""

    def __init__(self, store: Store, file: Path) -> None:
        self._store = store
        self._sidecar = Sidecar(file)
        self._seen: Mark | None = None
        self._since = self._noted = 0.0
        #: The database as this process last knew it; None: nothing may be claimed. For `Store.moved`.
        self.mark: Mark | None = None

    def beat(self) -> bool:
        """Before the first claim and with each heartbeat: compare, hold everything if need be, and remember.

        Returns whether this process may claim. Database errors are the caller's; they leave `mark` as it was.
        """
        # The file before the database: what another process writes in between is in the database already.
        written = self._sidecar.read()
        known = [mark for mark in (self.mark, written) if mark is not None]
        found = advance(self._store, known) if known else self._begin()
        if found is None:
            return False
        if found.alarm:
            log.error(
                "The database is not what it was (%s): %d broadcasts are on hold, see `vamos reconcile --help`",
                found.alarm,
                found.held,
            )
        self.mark = found.mark
        self._remember(found)
        return True

    def _begin(self) -> Advanced | None:
        patient = self._seen is None or time.monotonic() - self._since < PATIENCE
        found = begin(self._store, self._seen, patient=patient)
        if found is None and self._seen is None:
            with self._store.read() as connection:
                self._seen, self._since = self._store.read_mark(connection), time.monotonic()
            log.warning("%s is missing: looking whether another dispatcher knows this database", self._sidecar.file)
        return found

    def note(self, sender: str, claims: int) -> None:
        """Remember how many claims a number had, as its latest one counted them, before the bytes leave.

        In the file at most every `NOTE_EVERY` seconds: a backup that is younger than that when its process is killed
        is known only by what the provider says.
        """
        mark, now = self.mark, time.monotonic()
        if mark is None or claims <= mark.claims.get(sender, 0):
            return
        self.mark = mark = replace(mark, claims={**mark.claims, sender: claims})
        if now - self._noted < NOTE_EVERY:
            return
        self._noted = now
        try:
            self._sidecar.note_claims(mark.installation, sender, claims)
        except OSError as error:
            log.warning("%s can't be written: %s", self._sidecar.file, error.strerror)

    def _remember(self, found: Advanced) -> None:
        try:
            self._sidecar.write(found.mark)
        except OSError as error:
            # Sending goes on: the database is ahead of the file then, which is no reason for an alarm.
            log.warning("%s can't be written: %s", self._sidecar.file, error.strerror)
