"""A file in the body of a request: on disk while it is worked on, gone afterwards, and few at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from plugin.domain.upload import Limits
from plugin.errors import Conflict
from plugin.web.body import Received, receive_file, settled
from plugin.web.endpoint import Call

T = TypeVar("T")

#: Uploads in progress by person: each costs disk, a thread and a long transaction.
_MAX_PARALLEL = 2
_running: dict[str, int] = {}


async def with_file(call: Call, work: Callable[[Received, Limits], T]) -> T:
    """`work` on the file in the body, in one of the threads that read files. Check permissions before.

    Raises:
        Conflict: two of this person's uploads are running.
        plugin.errors.Invalid: the body is too large, too slow or compressed; and whatever `work` raises.
    """
    user_id, settings = call.session.principal.user_id, call.services.settings
    most = settings.max_upload_mb * 1024 * 1024
    if _running.get(user_id, 0) >= _MAX_PARALLEL:
        raise Conflict("Dois arquivos seus ainda estão sendo lidos.", "Espere até que um termine.")
    _running[user_id] = _running.get(user_id, 0) + 1
    try:
        received = await receive_file(call.request, Path(settings.uploads), most, call.run)

        def read() -> T:
            try:
                return work(received, Limits(bytes=most))
            finally:
                # What is needed of it is in the database now; personal data lies around nowhere else.
                received.path.unlink(missing_ok=True)

        # Whoever hangs up meanwhile has not freed their place: the file is being read all the same.
        return await settled(call.run_intake(read))
    finally:
        _running[user_id] -= 1
        if not _running[user_id]:
            del _running[user_id]
