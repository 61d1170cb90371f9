"""A broadcast of many rows with statuses and answers, made set-based: what reports and downloads are measured on."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from sqlalchemy import text

from benchmarks.people import operator
from plugin.domain.access import Principal
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.store import Store
from plugin.usecases.launch import LaunchRequest, launch

_BATCH = 10_000

#: Of a hundred rows: how many end so, with which code, and how far their statuses came.
_FATES = (
    (2, "failed", "131026", "Message undeliverable", 0),
    (1, "failed", "131049", "This message was not delivered to maintain healthy ecosystem engagement.", 0),
    (1, "unknown", None, None, 0),
    (6, "sent", None, None, 1),
    (40, "delivered", None, None, 2),
    (50, "read", None, None, 3),
)

_SETTLE = """
UPDATE delivery SET state = :state, error_code = :code, error = :error, attempts = 1, epoch = 1,
    provider_id = 'wamid.' || id, claimed_at = CAST(:begin AS BIGINT) + id * 25000,
    sent_at = CASE WHEN :steps >= 1 THEN CAST(:begin AS BIGINT) + id * 25000 + 100000 END,
    delivered_at = CASE WHEN :steps >= 2 THEN CAST(:begin AS BIGINT) + id * 25000 + 2100000 END,
    read_at = CASE WHEN :steps >= 3 THEN CAST(:begin AS BIGINT) + id * 25000 + 62100000 END,
    failed_at = CASE WHEN :code IS NOT NULL THEN CAST(:begin AS BIGINT) + id * 25000 + 100000 END
WHERE broadcast_id = :b AND state = 'queued' AND id % 100 >= :low AND id % 100 < :high
"""

_CONTACTS = """
INSERT INTO contact (id, channel, sender, canonical, name, created_at)
SELECT {id}, 'benchmark', d.sender, d.canonical, 'Ana', 0 FROM delivery d
WHERE d.broadcast_id = :b AND d.id % 100 IN (51, 52, 53, 54, 55, 56)
"""

_INBOUND = """
INSERT INTO inbound (id, channel, provider_id, sender, contact_id, kind, text, is_tap, raw, state, note, attempts,
    in_work, routed_at, delivery_id, proof, interaction, outcome, redirected_at, redirected_by, at, received_at)
SELECT {id}, 'benchmark', 'wamid.in.' || d.id, d.sender, {id}, 'text', 'Quero falar sobre a fatura, obrigado!',
    :no, '{{}}', 'done', '', 1, :no, d.read_at, {delivery}, {proof}, {interaction}, {outcome}, {redirected}, '',
    d.read_at + 1000000, d.read_at + 2000000
FROM delivery d WHERE d.broadcast_id = :b AND d.read_at IS NOT NULL AND d.id % 100 IN ({which})
"""


@dataclass(frozen=True)
class Ledger:
    """`launching`: seconds the launch took."""

    principal: Principal
    operation: str
    broadcast: str
    launching: float


def launched(store: Store, rows: int, first: int = 10_000_000) -> Ledger:
    """A broadcast to `rows` different numbers of which 1 % opted out, 1 % were refused and nobody has been sent to."""
    people = operator(store)
    upload = store.begin_upload(
        operation_id=people.operation, template_id=people.template, user_id=people.principal.user_id,
        filename="contatos.csv", sha256="0" * 64,
    )  # fmt: skip
    numbers = iter(range(1, rows + 1))
    refused = '[{"column":"telefone","value":"**","reason":"O telefone está sem DDD.","remedy":"","code":"phone"}]'
    while batch := list(itertools.islice(numbers, _BATCH)):
        values = '{{"1":"Maria Aparecida Souza","2":"R$ {},90","3":"11/12/2026"}}'
        good = [
            (n, n + 1, f"+5531{first + n:09}", f"+5531{first + n:09}", values.format(n), "") for n in batch if n % 100
        ]
        bad = [(n, n + 1, "rejected", "phone", '["9999","Ana"]', refused) for n in batch if not n % 100]
        store.add_upload_rows(upload, good, bad)
    store.finish_upload(upload)
    request = LaunchRequest(people.operation, upload, people.template, Redirect(RedirectKind.NONE))
    begin = time.perf_counter()
    broadcast = launch(store, people.principal, request, idempotency_key=upload).broadcast_id
    return Ledger(people.principal, people.operation, broadcast, time.perf_counter() - begin)


def sent(store: Store, ledger: Ledger) -> None:
    """Everybody has been sent to, as `_FATES` say; of those who read it 5 in 50 answered, 1 beyond attribution."""
    low = 0
    for share, state, code, error, steps in _FATES:
        values = {"state": state, "code": code, "error": error, "steps": steps, "low": low, "high": low + share}
        with store.write() as connection:
            connection.execute(text(_SETTLE), {"b": ledger.broadcast, "begin": store.now(), **values})
        low += share
    key = "lpad(CAST(d.id AS TEXT), 32, '0')" if store.dialect == "postgresql" else "printf('%032d', d.id)"
    attributed = {
        "delivery": "d.id", "proof": "'number'", "interaction": ":yes", "outcome": "'bot'", "redirected": "d.read_at",
        "which": "51, 52, 53, 54, 55",
    }  # fmt: skip
    loose = {
        "delivery": "NULL", "proof": "''", "interaction": ":no", "outcome": "NULL", "redirected": "NULL", "which": "56",
    }  # fmt: skip
    with store.write() as connection:
        connection.execute(text(_CONTACTS.format(id=key)), {"b": ledger.broadcast})
        for form in (attributed, loose):
            statement = _INBOUND.format(id=key, **form)
            bound = {"b": ledger.broadcast, "no": False, **({"yes": True} if ":yes" in statement else {})}
            connection.execute(text(statement), bound)
        connection.execute(
            text(
                "UPDATE delivery SET replied_at = read_at + 1000000 WHERE broadcast_id = :b AND read_at IS NOT NULL"
                " AND id % 100 IN (51, 52, 53, 54, 55)"
            ),
            {"b": ledger.broadcast},
        )
