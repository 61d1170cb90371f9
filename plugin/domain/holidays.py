"""Brazil's national holidays, by name.

Dates come from the package `holidays`, category "public": the nine days of Lei 662/1949 (as Lei 10.607/2002 amended
it), Lei 6.802/1980 and Lei 14.759/2023 (20 November, from 2024 on), and Good Friday, which the government's yearly
calendar lists as national although Lei 9.093/1995 leaves it to the municipalities. Carnival, Corpus Christi and the
holidays of states and towns are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache


def holiday_name(day: date) -> str | None:
    """The Portuguese name of the national holiday on `day`, or None on any other day.

    >>> holiday_name(date(2026, 4, 3))
    'Sexta-feira Santa'
    """
    return _of_year(day.year).get(day)


@lru_cache(maxsize=64)
def _of_year(year: int) -> Mapping[date, str]:
    # Here, not above: it takes 0.3 s and 17 MiB, and most processes never ask.
    from holidays.countries.brazil import Brazil

    # An object per year: the package's own filling of years on demand marks a year as known before it is, so a second
    # thread would read "no holiday".
    return dict(Brazil(years=year, language="pt_BR"))
