"""What has to happen now and then beside sending. One dispatcher at a time does it, whichever holds the lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from plugin.bootstrap import Services
from plugin.connector import Connector
from plugin.domain.refusal import Reaction
from plugin.store.database import new_id
from plugin.usecases.receive import sweep
from plugin.usecases.redirect import Texts

log = logging.getLogger(__name__)

LEASE = "housekeeping"
LEASE_SECONDS = 5.0
#: Uploads whose reader died are dropped after so many seconds: far above what any real file takes.
ABANDONED = 12 * 3600


class _Suspects:
    """The codes that smell of a mistake in template or file, on any channel."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self._connectors = connectors

    def __contains__(self, code: object) -> bool:
        return any(c.refusal(str(code)).reaction is Reaction.SUSPECT for c in self._connectors.values())


class Housekeeping:
    """Synchronous: the dispatcher calls it on a thread, once a second."""

    def __init__(self, services: Services, connectors: Mapping[str, Connector]) -> None:
        self._store = services.store
        self._settings = services.settings
        self._key = services.key
        self._suspects = _Suspects(connectors)
        self._holder = new_id()
        self._texts = Texts(self._settings.text_handoff, self._settings.text_opt_out, self._settings.text_notification)

    def keep(self) -> None:
        """One round. A chore that fails is logged and does not keep the others from being done."""
        # Before the lease is renewed, which is what tells that the clock ran ahead: cut off here, it is done again.
        if self._store.clock_turned_back(LEASE):
            mended = self._store.forget_the_future()
            log.warning(
                "The clock was turned back: %d rows had been waiting for times that the wrong one named", mended
            )
        if self._store.take_lease(LEASE, self._holder, LEASE_SECONDS) is None:
            return
        chores: tuple[Callable[[], None], ...] = (
            self._start, self._sweep, self._judge, self._resend, self._drop_cancelled, self._drop_uploads, self._reopen,
            self._finish,
        )  # fmt: skip
        for chore in chores:
            try:
                chore()
            except Exception:
                log.exception("Housekeeping: %s", chore.__name__)

    def stop_early(self, broadcast_id: str) -> None:
        """Pause a broadcast whose rows fail in a way that speaks of its message or its file."""
        if reason := self._store.stop_reason(broadcast_id, self._suspects):
            log.warning("Broadcast %s stopped: %s", broadcast_id, reason)
            self._store.pause_broadcast(broadcast_id, reason)

    def _start(self) -> None:
        for broadcast_id in self._store.start_due_broadcasts():
            log.info("Broadcast %s begins as scheduled", broadcast_id)

    def _sweep(self) -> None:
        swept = sweep(
            self._store,
            key=self._key,
            texts=self._texts,
            talk_button=self._settings.talk_button,
            older_than=self._settings.sweep_after,
        )
        if swept:
            log.warning("%d replies were redirected without the bot", swept)

    def _judge(self) -> None:
        """Failures that came by status, after the provider had accepted; and first waves that are over."""
        for broadcast in self._store.running_broadcasts():
            self.stop_early(broadcast["id"])
        for broadcast_id, verdict in self._store.judge_waves():
            log.info("First wave of broadcast %s: %s", broadcast_id, verdict)

    def _resend(self) -> None:
        if again := self._store.resend_due_unknowns():
            log.warning("%d messages of unknown outcome are sent again, as their broadcasts ask", again)

    def _drop_cancelled(self) -> None:
        if dropped := self._store.drop_cancelled():
            log.info("%d rows of cancelled broadcasts were skipped", dropped)

    def _drop_uploads(self) -> None:
        if dropped := self._store.drop_abandoned_uploads(ABANDONED):
            log.info("%d uploads that nobody finished reading were dropped", dropped)

    def _reopen(self) -> None:
        for broadcast_id in self._store.reopen_broadcasts():
            log.info("Broadcast %s runs again: rows came back to it", broadcast_id)

    def _finish(self) -> None:
        for broadcast_id in self._store.finish_broadcasts():
            log.info("Broadcast %s has nothing left to send", broadcast_id)
