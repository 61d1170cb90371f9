"""A test send: the message as it will be, to a few phones at hand, before the file's people get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from plugin.domain.access import BROADCAST, Principal
from plugin.domain.address import InvalidAddress, canonical, parse
from plugin.domain.delivery import DeliveryState
from plugin.domain.template import DEFAULT_TALK_BUTTON
from plugin.errors import Invalid
from plugin.usecases.launch import Launched, LaunchRequest, LaunchStore, Trial, launch

MAX_NUMBERS = 5


@dataclass(frozen=True)
class TrialLaunched(Launched):
    """`queued`: how many get the message, or have got it. `skipped`: (E.164 number, reason) of who does not."""

    queued: int
    skipped: tuple[tuple[str, str], ...] = ()


class TrialStore(LaunchStore, Protocol):
    """What a test send asks of the store; see `plugin.store.broadcasts`."""

    def delivery_rows(self, broadcast_id: str, state: str | None, after: int, limit: int) -> list[dict[str, Any]]: ...


def send_trial(
    store: TrialStore,
    principal: Principal,
    request: LaunchRequest,
    numbers: Sequence[str],
    row: int | None = None,
    *,
    idempotency_key: str,
    talk_button: str = DEFAULT_TALK_BUTTON,
) -> TrialLaunched:
    """Launch the request as a broadcast of its own, marked as a test, to these numbers with the values of one row.

    It goes the normal way, so that redirect, buttons and report can be tried out; who opted out is skipped, and named
    in the answer. Schedule, sending hours and first wave of the request do not apply.

    Args:
        numbers: as people write them, 1 to `MAX_NUMBERS`.
        row: an accepted row of the file; None: the first.

    Raises:
        As `launch`; Invalid also names a number that can't be written to, and a row that can't be sent.
    """
    principal.require(BROADCAST, request.operation_id)
    if not 1 <= len(numbers) <= MAX_NUMBERS:
        raise Invalid(
            f"O teste vai para 1 a {MAX_NUMBERS} números, não {len(numbers)}.", "Ajuste a lista.", field="numbers"
        )
    people: dict[str, str] = {}
    for nth, number in enumerate(numbers, 1):
        try:
            address = parse(number)
        except InvalidAddress as error:
            raise Invalid(f"{nth}º número: {error.message}", error.remedy, field=f"numbers.{nth - 1}") from error
        if canonical(address) in people:
            raise Invalid(f"O {nth}º número se repete.", "Deixe cada número uma vez.", field=f"numbers.{nth - 1}")
        people[canonical(address)] = address
    trial = Trial(tuple((address, key) for key, address in people.items()), row)
    plain = replace(request, start_at=None, hours=None, first_wave=None, on_unknown="keep", trial=trial)
    done = launch(store, principal, plain, idempotency_key=idempotency_key, talk_button=talk_button)
    rows = store.delivery_rows(done.broadcast_id, DeliveryState.SKIPPED.value, 0, MAX_NUMBERS)
    skipped = tuple((row["address"], row["reason"]) for row in rows)
    return TrialLaunched(done.broadcast_id, done.replayed, len(people) - len(skipped), skipped)
