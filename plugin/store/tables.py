"""All tables. Times are UTC, stored as microseconds since 1970 in 64-bit integers: they sort, compare and index
alike on SQLite and PostgreSQL, and no driver turns them into something else.

What a provider gives us (ids, codes, numbers) is Text: its length is not ours to promise.
Ids shown outside are UUIDv7-like texts of 32 hex digits; `delivery.id` and the other integer keys stay inside.
JSON is text written by orjson.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()

# SQLite makes a rowid alias only of the exact type INTEGER.
_BigKey: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[str]:
    return Column("id", String(32), primary_key=True)


def _time(name: str, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

lease = Table(
    "lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    _time("expires_at", nullable=False),
)

# One process that sends. Its epoch, never used twice, fences every claim it makes.
dispatcher = Table(
    "dispatcher",
    metadata,
    Column("epoch", _BigKey, primary_key=True, autoincrement=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", Text, nullable=False),  # tells this process from a later one with the same pid
    _time("started_at", nullable=False),
    _time("expires_at", nullable=False),
    _time("ended_at"),
    Column("ended", String(16), nullable=False, default=""),  # drained | crashed (found dead, or silent for too long)
    Column("cut_off", Integer, nullable=False, default=0),  # rows it left in `sending`: unknown since
    sqlite_autoincrement=True,
)
Index("dispatcher_ended", dispatcher.c.ended)

# What all dispatchers share about a sending number: its pace, its provider's mood, its budget.
sender = Table(
    "sender",
    metadata,
    Column("id", String(64), primary_key=True),  # the provider's id of the number
    Column("rate", Float),  # messages per second; null: the setting
    Column("daily", Integer),  # different people in 24 hours; null: the setting, 0: no limit
    _time("next_at", nullable=False),  # the next free place at the wire
    _time("held_until", nullable=False),  # nothing goes out before
    Column("hold_reason", Text, nullable=False, default=""),
    Column("factor", Float, nullable=False, default=1.0),  # share of the rate at `factor_at`; doubles every 10 s
    _time("factor_at", nullable=False),
    Column("failures", Integer, nullable=False, default=0),  # of the provider, without a success in between
    Column("trips", Integer, nullable=False, default=0),  # how often the breaker opened since the last success
    _time("paced_at", nullable=False),  # when any of these was written: shows a clock that was turned back
    Column("claims", BigInteger, nullable=False, default=0),  # ever made: never falls, unless time is turned back
    Column("reached", Integer, nullable=False, default=0),  # rows of `reached`, counted
)

# Whom a number wrote to in the last 24 hours; kept only while the number has a daily limit.
reached = Table(
    "reached",
    metadata,
    Column("sender", String(64), primary_key=True),
    Column("canonical", String(20), primary_key=True),
    _time("at", nullable=False),
)
Index("reached_at", reached.c.sender, reached.c.at)

operation = Table(
    "operation",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("sender", String(64), nullable=False),
    Column("push_queue_id", String(32)),
    _time("created_at", nullable=False),
)

queue = Table(
    "queue",
    metadata,
    _id(),
    Column("operation_id", ForeignKey("operation.id"), nullable=False),
    Column("name", String(200), nullable=False),
    _time("created_at", nullable=False),
    UniqueConstraint("operation_id", "name"),
)

app_user = Table(
    "app_user",
    metadata,
    _id(),
    Column("login", String(200), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("password_hash", Text),
    Column("disabled", Boolean, nullable=False, default=False),
    _time("created_at", nullable=False),
)

user_grant = Table(
    "user_grant",
    metadata,
    Column("user_id", ForeignKey("app_user.id"), primary_key=True),
    # "*" is every operation, also future ones.
    Column("operation_id", String(32), primary_key=True),
    Column("permission", String(32), primary_key=True),
)

session = Table(
    "session",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("user_id", ForeignKey("app_user.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    _time("created_at", nullable=False),
    _time("seen_at", nullable=False),
    _time("expires_at", nullable=False),
)

login_link = Table(
    "login_link",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),
    Column("user_id", ForeignKey("app_user.id"), nullable=False),
    _time("expires_at", nullable=False),
    _time("used_at"),
)

login_attempt = Table(
    "login_attempt",
    metadata,
    Column("login", String(200), primary_key=True),
    Column("failures", Integer, nullable=False),
    _time("blocked_until", nullable=False),
)

queue_member = Table(
    "queue_member",
    metadata,
    Column("queue_id", ForeignKey("queue.id"), primary_key=True),
    Column("user_id", ForeignKey("app_user.id"), primary_key=True),
)

template = Table(
    "template",
    metadata,
    _id(),
    Column("channel", String(64), nullable=False),
    Column("provider_id", String(128), nullable=False),
    Column("name", String(512), nullable=False),
    Column("language", String(16), nullable=False),
    Column("category", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("raw", Text, nullable=False),
    _time("synced_at", nullable=False),
    UniqueConstraint("channel", "name", "language"),
)

upload = Table(
    "upload",
    metadata,
    _id(),
    Column("operation_id", ForeignKey("operation.id"), nullable=False),
    Column("template_id", ForeignKey("template.id"), nullable=False),
    Column("user_id", ForeignKey("app_user.id"), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("encoding", String(16), nullable=False, default=""),
    Column("delimiter", String(1), nullable=False, default=""),
    # JSON: {"columns": [header…], "address": header, "variables": {placeholder: header}, "ignored": [header…]}
    Column("columns", Text, nullable=False, default="{}"),
    Column("state", String(16), nullable=False),  # reading | ready | unreadable
    Column("error", Text),  # JSON of the structural error
    Column("rows", Integer, nullable=False, default=0),
    Column("accepted", Integer, nullable=False, default=0),
    Column("rejected", Integer, nullable=False, default=0),
    Column("skipped", Text, nullable=False, default="{}"),  # JSON: {reason: n}
    _time("created_at", nullable=False),
)

upload_row = Table(
    "upload_row",
    metadata,
    Column("upload_id", ForeignKey("upload.id"), primary_key=True),
    Column("row", Integer, primary_key=True),  # 1, 2, 3… in the file's order, header not counted
    Column("line", Integer, nullable=False),  # physical line in the file where the record begins, header is line 1
    Column("state", String(16), nullable=False),  # accepted | rejected | skipped
    Column("reason", String(32), nullable=False, default=""),
    Column("address", String(20)),  # +E.164 as we dial it
    Column("canonical", String(20)),  # key that is the same for both ninth-digit forms
    Column("variables", Text),  # JSON: {placeholder: value}
    Column("redirect", Text),  # JSON: {"kind":…, "queue":…, "agent":…} or null
    Column("cells", Text),  # JSON list of the row as read; only for rejected rows
    Column("errors", Text),  # JSON list of {"column", "value" (masked), "reason", "remedy", "code"}
    # Rows arrive in the order of the key, a million at a time: every further tree costs a quarter of the speed.
    sqlite_with_rowid=False,
)
Index(
    "upload_row_state",
    upload_row.c.upload_id,
    upload_row.c.state,
    upload_row.c.row,
    sqlite_where=upload_row.c.state != "accepted",
    postgresql_where=upload_row.c.state != "accepted",
)

broadcast = Table(
    "broadcast",
    metadata,
    _id(),
    Column("operation_id", ForeignKey("operation.id"), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("upload_id", ForeignKey("upload.id"), nullable=False),
    Column("template_id", ForeignKey("template.id"), nullable=False),
    Column("template", Text, nullable=False),  # the provider's object frozen at launch
    Column("filename", String(255), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("redirect", String(16), nullable=False),
    Column("queue_id", String(32)),
    Column("agent_id", String(32)),
    Column("buttons", Text, nullable=False, default="{}"),  # JSON: {button index: {"kind","queue","agent","opt_out"}}
    Column("free_text", String(16), nullable=False),
    Column("notify_text", Text, nullable=False, default=""),
    Column("notify_team", Boolean, nullable=False, default=False),
    Column("window", BigInteger, nullable=False),  # reply window, microseconds
    Column("state", String(16), nullable=False),  # scheduled | running | paused | finished | cancelled
    # Why it is in its state. The code: one of domain.why, with its figures (JSON) as reason, or the provider's that
    # paused it; without a code the reason is a sentence of an earlier version.
    Column("state_reason", Text, nullable=False, default=""),
    Column("state_code", Text, nullable=False, default=""),
    # why a pause is more than a pause. restore: only reconciling ends it; wave: whoever resumes lets the rest go
    Column("hold", String(16), nullable=False, default=""),
    Column("test", Boolean, nullable=False, default=False),
    Column("hours", Text, nullable=False, default=""),  # JSON of domain.hours.SendingHours; empty: at any time
    Column("first_wave", Text, nullable=False, default=""),  # JSON of domain.wave.FirstWave; empty: none
    Column("wave_end", BigInteger),  # last delivery of the first wave, while nothing beyond may go; null: go on
    Column("on_unknown", String(16), nullable=False, default="keep"),  # keep | resend (at least once)
    _time("start_at"),  # scheduled for
    _time("resumed_at"),  # a person last said "go on": what was claimed before no longer stops it early
    _time("wake_at"),  # nothing can be claimed before: everybody is outside the sending hours, or the day is spent
    Column("wait_reason", String(16), nullable=False, default=""),  # hours | daily
    Column("rows", Integer, nullable=False),
    Column("created_by", ForeignKey("app_user.id"), nullable=False),
    _time("created_at", nullable=False),
    _time("finished_at"),
)
Index("broadcast_operation", broadcast.c.operation_id, broadcast.c.created_at)
Index("broadcast_state", broadcast.c.state)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _BigKey, primary_key=True, autoincrement=True),
    Column("broadcast_id", ForeignKey("broadcast.id"), nullable=False),
    Column("row", Integer, nullable=False),
    Column("line", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False, default=""),
    Column("sender", String(64), nullable=False),
    Column("address", String(20)),
    Column("canonical", String(20)),
    Column("variables", Text),
    Column("redirect", Text),
    Column("attempts", Integer, nullable=False, default=0),  # claims ever made: names an attempt at the provider
    Column("tries", Integer, nullable=False, default=0),  # refusals that count, since it was last queued by a person
    Column("failed_attempt", Integer, nullable=False, default=0),  # the last one known to have failed
    Column("resent", Integer, nullable=False, default=0),  # how often an unknown outcome was sent again by itself
    Column("epoch", BigInteger, nullable=False, default=0),
    Column("provider_id", Text),
    Column("returned_address", Text),
    Column("user_ref", Text),  # the provider's id of the person (Meta: BSUID), learnt from answers and statuses
    Column("error_code", Text),
    Column("error", Text),
    _time("not_before"),
    _time("claimed_at"),
    _time("sent_at"),
    _time("delivered_at"),
    _time("read_at"),
    _time("failed_at"),
    _time("replied_at"),
    UniqueConstraint("broadcast_id", "row"),
)
# Claims, counts and lists by state: within one state by id, which is the file's order.
Index("delivery_state", delivery.c.broadcast_id, delivery.c.state, delivery.c.id)
#: Where the counts of a report go further than the state. Queries say it literally, or SQLite takes no notice.
EXPLAINED = "state IN ('skipped', 'deferred', 'failed')"
Index(
    "delivery_why",
    delivery.c.broadcast_id,
    delivery.c.state,
    delivery.c.reason,
    delivery.c.error_code,
    delivery.c.id,
    sqlite_where=text(EXPLAINED),
    postgresql_where=text(EXPLAINED),
)
_deferred = delivery.c.state == "deferred"
Index(
    "delivery_due",
    delivery.c.broadcast_id,
    delivery.c.not_before,
    sqlite_where=_deferred,
    postgresql_where=_deferred,
)
# Who may be written to while it is night in all of Brazil: few, among hundreds of thousands. Also said literally. In
# an order of its own, so that no planner believes another index to be as good.
ABROAD = "SUBSTR(address, 1, 3) <> '+55'"
_abroad = text(f"state = 'queued' AND {ABROAD}")
Index("delivery_abroad", delivery.c.broadcast_id, delivery.c.address, sqlite_where=_abroad, postgresql_where=_abroad)
_in_flight = delivery.c.state == "sending"
Index("delivery_in_flight", delivery.c.epoch, sqlite_where=_in_flight, postgresql_where=_in_flight)


def _known(column: Column[Any]) -> dict[str, Any]:
    """Keeps what isn't known yet out of an index: launching a million rows need not write them there."""
    return {"sqlite_where": column.isnot(None), "postgresql_where": column.isnot(None)}


Index("delivery_provider", delivery.c.provider_id, **_known(delivery.c.provider_id))
Index("delivery_person", delivery.c.canonical, delivery.c.sender)
# One person is written to once per broadcast, whatever the intake let through.
_sendable = delivery.c.state.notin_(("skipped", "rejected"))
Index(
    "delivery_once",
    delivery.c.broadcast_id,
    delivery.c.canonical,
    unique=True,
    sqlite_where=_sendable,
    postgresql_where=_sendable,
)
Index("delivery_user_ref", delivery.c.sender, delivery.c.user_ref, **_known(delivery.c.user_ref))
Index("delivery_returned", delivery.c.sender, delivery.c.returned_address, **_known(delivery.c.returned_address))
# What was sent since a moment, for the early stop. With the id, or PostgreSQL may sort all of it to break ties.
Index(
    "delivery_claimed",
    delivery.c.broadcast_id,
    delivery.c.claimed_at,
    delivery.c.id,
    **_known(delivery.c.claimed_at),
)
Index("delivery_replied", delivery.c.broadcast_id, delivery.c.id, **_known(delivery.c.replied_at))

contact = Table(
    "contact",
    metadata,
    _id(),  # also Rasa's sender_id
    Column("channel", String(64), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("address", Text),  # +E.164 of the first message
    Column("canonical", Text),
    Column("user_ref", Text),
    Column("name", String(200), nullable=False, default=""),
    _time("last_inbound_at"),
    _time("created_at", nullable=False),
    UniqueConstraint("sender", "canonical"),
    UniqueConstraint("sender", "user_ref"),
)

inbound = Table(
    "inbound",
    metadata,
    _id(),
    Column("channel", String(64), nullable=False),
    Column("provider_id", Text, nullable=False, unique=True),
    Column("sender", Text, nullable=False),
    Column("contact_id", ForeignKey("contact.id")),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False, default=""),
    Column("payload", Text),
    Column("is_tap", Boolean, nullable=False, default=False),
    Column("context_id", Text),
    Column("raw", Text, nullable=False),
    # stored → (taken) → done; quarantined: unreadable or failed too often
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    _time("taken_until"),  # in work: until when the lease holds; given back: when to try again
    Column("in_work", Boolean, nullable=False, default=False),
    _time("routed_at"),
    # attribution
    Column("delivery_id", ForeignKey("delivery.id")),
    Column("proof", String(32), nullable=False, default=""),
    Column("interaction", Boolean, nullable=False, default=False),  # first attributed reply of its delivery
    # decision, and its execution
    Column("outcome", String(16)),
    Column("decision", Text),  # JSON of domain.redirect.Decision
    Column("case_id", String(32)),
    _time("redirected_at"),
    _time("bot_done_at"),  # the bot has had its turn with this message (or needs none)
    Column("redirected_by", String(16), nullable=False, default=""),  # action | gate | sweeper
    _time("at", nullable=False),  # the provider's time
    _time("received_at", nullable=False),
)
Index("inbound_work", inbound.c.state, inbound.c.received_at)
Index("inbound_contact", inbound.c.contact_id, inbound.c.received_at)
Index("inbound_delivery", inbound.c.delivery_id)
# Messages that answer nothing we know of, and those that can't be attributed.
_loose = inbound.c.delivery_id.is_(None)
Index("inbound_loose", inbound.c.sender, inbound.c.at, sqlite_where=_loose, postgresql_where=_loose)

service_case = Table(
    "service_case",
    metadata,
    _id(),
    Column("operation_id", ForeignKey("operation.id"), nullable=False),
    Column("queue_id", ForeignKey("queue.id")),
    Column("contact_id", ForeignKey("contact.id"), nullable=False),
    Column("inbound_id", ForeignKey("inbound.id"), unique=True),
    Column("delivery_id", ForeignKey("delivery.id")),
    Column("state", String(24), nullable=False),  # queued | active | closed
    Column("version", Integer, nullable=False, default=1),
    Column("agent_id", ForeignKey("app_user.id")),
    Column("why", Text, nullable=False, default=""),
    Column("outcome", String(64), nullable=False, default=""),
    Column("returned", String(16), nullable=False, default=""),  # continue | menu | silent
    _time("waiting_since"),
    _time("opened_at", nullable=False),
    _time("closed_at"),
    _time("bot_told_at"),  # Rasa's tracker knows that the human stretch is over
)
Index("case_live", service_case.c.contact_id, service_case.c.state)
Index("case_queue", service_case.c.operation_id, service_case.c.state, service_case.c.opened_at)

case_event = Table(
    "case_event",
    metadata,
    Column("id", _BigKey, primary_key=True, autoincrement=True),
    Column("case_id", ForeignKey("service_case.id"), nullable=False),
    Column("event", String(32), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("detail", Text, nullable=False, default="{}"),
    _time("at", nullable=False),
)
Index("case_event_case", case_event.c.case_id, case_event.c.id)

message = Table(
    "message",
    metadata,
    Column("id", _BigKey, primary_key=True, autoincrement=True),
    Column("contact_id", ForeignKey("contact.id"), nullable=False),
    Column("case_id", ForeignKey("service_case.id")),
    Column("author", String(16), nullable=False),  # contact | bot | agent | system
    Column("author_id", String(32)),
    Column("text", Text, nullable=False),
    Column("buttons", Text, nullable=False, default="[]"),  # JSON: [[id, title]…]
    # outbound: queued → sending → sent | failed | unknown (then delivered, read); inbound: received
    Column("state", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    _time("claimed_at"),
    Column("provider_id", Text),
    Column("inbound_id", String(32)),
    Column("error", Text),
    Column("dedupe", String(64), unique=True),  # one message per effect, however often the effect is tried
    _time("at", nullable=False),
    _time("sent_at"),
)
Index("message_contact", message.c.contact_id, message.c.id)
Index("message_work", message.c.state, message.c.id)
Index("message_provider", message.c.provider_id)

notification = Table(
    "notification",
    metadata,
    _id(),
    Column("operation_id", ForeignKey("operation.id"), nullable=False),
    Column("contact_id", ForeignKey("contact.id"), nullable=False),
    Column("inbound_id", ForeignKey("inbound.id"), nullable=False),
    Column("broadcast_id", ForeignKey("broadcast.id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("team", Boolean, nullable=False),
    Column("via", String(16), nullable=False),  # channel (no device registered)
    _time("at", nullable=False),
    UniqueConstraint("inbound_id"),
)

opt_out = Table(
    "opt_out",
    metadata,
    Column("canonical", String(20), primary_key=True),
    Column("source", String(32), nullable=False),  # word | button | provider | import | person
    Column("detail", Text, nullable=False, default=""),
    Column("inbound_id", String(32)),
    Column("delivery_id", BigInteger),  # the delivery that was answered, or refused for it
    Column("user_id", String(32)),  # who imported or entered it
    _time("at", nullable=False),
)
Index("opt_out_at", opt_out.c.at, opt_out.c.canonical)

audit = Table(
    "audit",
    metadata,
    Column("id", _BigKey, primary_key=True, autoincrement=True),
    Column("user_id", String(32)),
    Column("action", String(64), nullable=False),
    Column("object", String(64), nullable=False, default=""),
    Column("detail", Text, nullable=False, default="{}"),
    _time("at", nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("user_id", String(32), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("response", Text, nullable=False),
    _time("at", nullable=False),
)

provider_fact = Table(
    "provider_fact",
    metadata,
    Column("name", String(64), primary_key=True),  # statuses_unmatched, items_unreadable …
    Column("count", BigInteger, nullable=False),
)
