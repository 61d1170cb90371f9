"""When a broadcast may be put off to."""

from __future__ import annotations

from plugin.errors import Invalid

#: A template or a file that lies longer than this is no longer what the operator looked at.
MAX_DAYS_AHEAD = 90


def check_start(start_at: int | None, now: int) -> None:
    """Refuse a time (microseconds UTC) that is past or too far ahead.

    Raises:
        Invalid.
    """
    if start_at is None:
        return
    if start_at <= now:
        raise Invalid(
            "O horário do agendamento já passou.", "Escolha um horário futuro, ou envie agora.", field="start_at"
        )
    if start_at > now + MAX_DAYS_AHEAD * 24 * 3600 * 1_000_000:
        raise Invalid(
            f"O agendamento vai até {MAX_DAYS_AHEAD} dias à frente.",
            "Escolha uma data mais próxima.",
            field="start_at",
        )
