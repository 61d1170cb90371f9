"""Sending hours: when a broadcast may write to a person, by the clock on that person's wall.

Whoever may not be written to now is written to at the next opening. Instants are microseconds UTC, as everywhere;
minutes since 1970 inside, because every rule here (openings, changes of offset) falls on whole minutes.

Which clock: Brazil by area code, other countries by the zones that `phonenumbers` knows for the number's prefix. Where
these leave several zones open, it must be open in *all* of them. If their clocks lie so far apart that no minute of a
day would be left (Russia's twelve hours and a window of eight), the zone nearest to all the others decides, so that
no one's clock is further off than need be and nobody is unreachable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import timezone as prefixes

from plugin.domain.holidays import holiday_name
from plugin.errors import Invalid

#: The zone of whoever has no other: no number, or one that no table knows.
DEFAULT_ZONE = "America/Sao_Paulo"

# IANA's zones by Anatel's area codes. phonenumbers has its own list, but from before 2019 and full of slips (it puts
# Recife on the island of Noronha and Pará's west in Manaus).
_BY_AREA_CODE = {
    (DEFAULT_ZONE,): "11 12 13 14 15 16 17 18 19 21 22 24 27 28 31 32 33 34 35 37 38 "
    "41 42 43 44 45 46 47 48 49 51 53 54 55 61 62 64",
    ("America/Araguaina",): "63",
    ("America/Cuiaba",): "65 66",
    ("America/Campo_Grande",): "67",
    ("America/Rio_Branco",): "68",
    ("America/Porto_Velho",): "69",
    ("America/Bahia",): "71 73 74 75 77",
    ("America/Maceio",): "79 82",
    ("America/Fortaleza",): "83 84 85 86 88 89 98 99",
    ("America/Recife",): "87",
    ("America/Belem",): "91 94 96",
    ("America/Manaus",): "92",
    ("America/Santarem",): "93",
    ("America/Boa_Vista",): "95",
    # Two zones, and no digit tells a mobile's owner apart: open only when open in both. 81 is Recife (UTC-3) and the
    # island of Fernando de Noronha (UTC-2), 97 Amazonas without Manaus: UTC-4, in its west UTC-5 (Lei 12.876/2013).
    # The more populous comes first: it decides where both can't be had.
    ("America/Recife", "America/Noronha"): "81",
    ("America/Manaus", "America/Eirunepe"): "97",
}
_BRAZIL = {f"+55{code}": zones for zones, codes in _BY_AREA_CODE.items() for code in codes.split()}

_DAY = 24 * 60
_MINUTE = 60 * 1_000_000
_EPOCH = date(1970, 1, 1).toordinal()

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_KEYS = ("from", "to", "days", "holidays")


@dataclass(frozen=True)
class SendingHours:
    """From minute `start` of the day to minute `end` (exclusive, at most 1440 = midnight) on ISO weekdays `days`.

    On Brazilian national holidays Brazilian numbers are left alone unless `holidays` is True.

    Raises:
        Invalid: field "hours"; the window is empty, crosses midnight, or has no day.
    """

    start: int
    end: int
    days: frozenset[int] = frozenset(range(1, 8))
    holidays: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.start < _DAY and 0 < self.end <= _DAY):
            raise _invalid("O horário de envio está fora do dia.", "Escolha horas entre 00:00 e 24:00.")
        if self.start >= self.end:
            raise _invalid(
                f"O horário de envio começa às {_clock(self.start)} e termina às {_clock(self.end)}.",
                "O fim vem depois do início, no mesmo dia: a janela não atravessa a meia-noite. "
                "Para enviar até o fim do dia, termine à meia-noite.",
            )
        if not self.days:
            raise _invalid("Nenhum dia da semana foi escolhido.", "Escolha pelo menos um dia.")
        if not self.days <= frozenset(range(1, 8)):
            raise _invalid(
                "Há um dia da semana que não existe.", "Use de 1 (segunda-feira) a 7 (domingo), cada um um número."
            )

    def opens(self, address: str | None, now: int) -> int:
        """`now` if this person may be written to now, else the next instant they may be, both µs UTC.

        `address` is an E.164 number; None or anything else is taken for somebody in São Paulo.
        """
        opening = _opening(self, zones(address), _keeps_holidays(address), now // _MINUTE)
        return now if opening is None else opening

    def opens_anywhere(self, now: int) -> int:
        """`now` if it is open anywhere in Brazil, else the earliest next opening there, both µs UTC.

        Never later than `opens` of any Brazilian number, so a broadcast to Brazilian numbers can sleep until then.
        Numbers of other countries may open earlier, or while all of Brazil is closed.
        """
        minute = now // _MINUTE
        openings = [_opening(self, one, True, minute) for one in _BY_AREA_CODE]
        return min(now if opening is None else opening for opening in openings)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SendingHours:
        """``{"from": "08:00", "to": "20:00", "days": [1, 2, 3, 4, 5], "holidays": false}``.

        "to" may be "24:00". Without "days" every day counts; without "holidays" they are left out.

        Raises:
            Invalid: field "hours", with what is wrong and the remedy in Portuguese.
        """
        if not isinstance(value, Mapping):
            raise _invalid(
                "O horário de envio não é um objeto.", 'Envie, por exemplo, {"from": "08:00", "to": "20:00"}.'
            )
        unknown = [str(key) for key in value if key not in _KEYS]
        if unknown:
            raise _invalid(
                f"O horário de envio não tem o campo {', '.join(sorted(unknown))}.",
                f"Os campos são {', '.join(_KEYS)}.",
            )
        days = value.get("days", list(range(1, 8)))
        # True is an int to Python and would be Monday.
        if not isinstance(days, (list, tuple)) or any(type(day) is not int for day in days):
            raise _invalid(
                "Os dias da semana não são uma lista de números.",
                "Use de 1 (segunda-feira) a 7 (domingo), por exemplo [1, 2, 3, 4, 5].",
            )
        holidays = value.get("holidays", False)
        if not isinstance(holidays, bool):
            raise _invalid("A escolha sobre feriados não é sim ou não.", "Use true ou false.")
        return cls(_minute(value, "from"), _minute(value, "to"), frozenset(days), holidays)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "from": _clock(self.start),
            "to": _clock(self.end),
            "days": sorted(self.days),
            "holidays": self.holidays,
        }

    def _earliest(self, local: int, keeps_holidays: bool) -> int:
        """`local` (minutes on somebody's clock since 1970) if it is open, else no later than the next opening.

        At most a day later, and past `local` when closed, so that asking again and again arrives.
        """
        day, minute = divmod(local, _DAY)
        if minute < self.end and self._sends_on(day, keeps_holidays):
            return max(local, day * _DAY + self.start)
        return (day + 1) * _DAY

    def _sends_on(self, day: int, keeps_holidays: bool) -> bool:
        """Whether the day (counted since 1970, a Thursday) is one to send on."""
        if (day + 3) % 7 + 1 not in self.days:
            return False
        return self.holidays or not keeps_holidays or holiday_name(date.fromordinal(_EPOCH + day)) is None


def zones(address: str | None) -> tuple[str, ...]:
    """The IANA zones of an E.164 number, never empty: one, or all that its prefix leaves open.

    >>> zones("+5592991234567")
    ('America/Manaus',)
    """
    if address is None:
        return (DEFAULT_ZONE,)
    return _BRAZIL.get(address[:5]) or _abroad(address)


def _keeps_holidays(address: str | None) -> bool:
    """Whether Brazil's holidays are this person's: who has no readable number is taken for a Brazilian."""
    return address is None or address.startswith("+55") or not address.startswith("+")


@lru_cache(maxsize=16_384)
def _abroad(address: str) -> tuple[str, ...]:
    try:
        found = prefixes.time_zones_for_number(phonenumbers.parse(address))
    except phonenumbers.NumberParseException:
        return (DEFAULT_ZONE,)
    # "Etc/Unknown" is no zone; and a zone may be newer than the machine's own list.
    return tuple(name for name in found if _is_known(name)) or (DEFAULT_ZONE,)


def _is_known(name: str) -> bool:
    try:
        _zone(name)
    except ZoneInfoNotFoundError:
        return False
    return True


@cache  # ZoneInfo's own cache lets go of all but eight
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=4096)
def _opening(hours: SendingHours, names: tuple[str, ...], keeps_holidays: bool, minute: int) -> int | None:
    """The next opening (µs UTC) in these zones, None if they are open in this minute (since 1970).

    Kept: in one minute thousands of rows ask for the same few zones.
    """
    clocks = [_zone(name) for name in names]
    at = minute
    while True:
        offsets = _offsets(clocks, at)
        deciding = _deciding(offsets, hours.end - hours.start)
        then = max(hours._earliest(at + offset, keeps_holidays) - offset for offset in deciding)
        if then == at:
            return None if at == minute else at * _MINUTE
        # `then` was reckoned with the offsets of `at`. Do clocks change on the way, go on from there instead: so an
        # hour that is skipped opens at its end, and one that comes twice counts twice.
        at = then if _offsets(clocks, then) == offsets else _change(clocks, at, then)


def _offsets(clocks: list[ZoneInfo], minute: int) -> tuple[int, ...]:
    """How far each clock is ahead of UTC, in minutes."""
    offsets = (datetime.fromtimestamp(minute * 60, clock).utcoffset() for clock in clocks)
    return tuple(int(offset.total_seconds()) // 60 for offset in offsets if offset is not None)


def _change(clocks: list[ZoneInfo], before: int, after: int) -> int:
    """The first minute with other offsets than `before`; `after`, at most a day later, has them."""
    old = _offsets(clocks, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offsets(clocks, middle) == old:
            before = middle
        else:
            after = middle
    return after


def _deciding(offsets: tuple[int, ...], window: int) -> tuple[int, ...]:
    """The clocks that must be open: all, or the one nearest to all others (the first such) if none would be left."""
    if max(offsets) - min(offsets) < window:
        return offsets
    return (min(offsets, key=lambda one: max(abs(one - other) for other in offsets)),)


def _minute(value: Mapping[str, Any], key: str) -> int:
    written = value.get(key)
    match = _TIME.fullmatch(written) if isinstance(written, str) else None
    if match:
        return int(match[1]) * 60 + int(match[2])
    if key == "to" and written == "24:00":
        return _DAY
    name = {"from": "início", "to": "fim"}[key]
    if written is None:
        raise _invalid(f"Falta o {name} do horário de envio.", f'Preencha "{key}", por exemplo "08:00".')
    latest = "24:00" if key == "to" else "23:59"
    raise _invalid(
        f"O {name} do horário de envio não é uma hora: {str(written)[:20]}.",
        f'Escreva a hora com quatro dígitos, de 00:00 a {latest}, por exemplo "08:00".',
    )


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _invalid(message: str, remedy: str) -> Invalid:
    return Invalid(message, remedy, field="hours")
