"""Several dispatchers, pace and budget shared per sending number, control, and why a number is suppressed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_big_key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, length: int | None = None, default: str = "") -> sa.Column:
    kind = sa.Text() if length is None else sa.String(length)
    return sa.Column(name, kind, nullable=False, server_default=default)


def _number(name: str, default: str = "0", kind: type = sa.Integer) -> sa.Column:
    return sa.Column(name, kind(), nullable=False, server_default=default)


def _partial(name: str, columns: list[str], where: str, table: str = "delivery") -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    op.create_table(
        "dispatcher",
        sa.Column("epoch", _big_key, autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        _text("ended", 16),
        _number("cut_off"),
        sa.PrimaryKeyConstraint("epoch"),
        sqlite_autoincrement=True,
    )
    op.create_index("dispatcher_ended", "dispatcher", ["ended"])
    op.create_table(
        "sender",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("daily", sa.Integer(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        _text("hold_reason"),
        _number("factor", "1", sa.Float),
        sa.Column("factor_at", sa.BigInteger(), nullable=False),
        _number("failures"),
        _number("trips"),
        sa.Column("paced_at", sa.BigInteger(), nullable=False),
        _number("claims", kind=sa.BigInteger),
        _number("reached"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "reached",
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("canonical", sa.String(20), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "canonical"),
    )
    op.create_index("reached_at", "reached", ["sender", "at"])

    for column in (
        _text("state_code"),
        _text("hold", 16),
        sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false()),
        _text("hours"),
        _text("first_wave"),
        sa.Column("wave_end", sa.BigInteger(), nullable=True),
        _text("on_unknown", 16, "keep"),
        sa.Column("start_at", sa.BigInteger(), nullable=True),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        _text("wait_reason", 16),
    ):
        op.add_column("broadcast", column)
    op.add_column("delivery", _number("tries"))
    op.add_column("delivery", _number("failed_attempt"))
    op.add_column("delivery", _number("resent"))
    # The dispatchers of before are in no list: what they left open would stay so.
    op.execute("UPDATE delivery SET state = 'unknown', error_code = 'crash' WHERE state = 'sending'")
    op.execute("UPDATE message SET state = 'unknown' WHERE state = 'sending'")
    # The dispatcher of before could wait in state `queued`; since now only a deferred row waits.
    op.execute("UPDATE delivery SET state = 'deferred', reason = 'retry' WHERE state = 'queued' AND not_before > 0")
    _partial("delivery_due", ["broadcast_id", "not_before"], "state = 'deferred'")
    _partial("delivery_abroad", ["broadcast_id", "address"], "state = 'queued' AND SUBSTR(address, 1, 3) <> '+55'")
    _partial("delivery_in_flight", ["epoch"], "state = 'sending'")
    # One index instead of two, and nothing in an index that isn't known yet: launching takes half the time.
    for index in ("delivery_claim", "delivery_counts", "delivery_provider", "delivery_user_ref", "delivery_returned"):
        op.drop_index(index, "delivery")
    op.create_index("delivery_state", "delivery", ["broadcast_id", "state", "id"])
    _partial(
        "delivery_why",
        ["broadcast_id", "state", "reason", "error_code", "id"],
        "state IN ('skipped', 'deferred', 'failed')",
    )
    _partial("delivery_provider", ["provider_id"], "provider_id IS NOT NULL")
    _partial("delivery_user_ref", ["sender", "user_ref"], "user_ref IS NOT NULL")
    _partial("delivery_returned", ["sender", "returned_address"], "returned_address IS NOT NULL")
    _partial("delivery_claimed", ["broadcast_id", "claimed_at", "id"], "claimed_at IS NOT NULL")
    _partial("delivery_replied", ["broadcast_id", "id"], "replied_at IS NOT NULL")
    _partial("inbound_loose", ["sender", "at"], "delivery_id IS NULL", table="inbound")
    op.add_column("opt_out", sa.Column("delivery_id", sa.BigInteger(), nullable=True))
    op.add_column("opt_out", sa.Column("user_id", sa.String(32), nullable=True))
    op.execute(
        "UPDATE opt_out SET delivery_id = (SELECT i.delivery_id FROM inbound i WHERE i.id = opt_out.inbound_id)"
        " WHERE inbound_id IS NOT NULL"
    )
    op.create_index("opt_out_at", "opt_out", ["at", "canonical"])
