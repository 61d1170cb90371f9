"""Who answers a phone number: its WhatsApp id, name and user id. Everything follows from the number alone."""

from __future__ import annotations

import hashlib
import re

#: Country code of our own (business) number: Meta puts it before a number that is sent without ``+``.
OWN_COUNTRY = "55"

_FIRST_NAMES = """
Ana Beatriz Bruno Camila Carlos Cláudia Daniel Débora Diego Eduardo Fabiana Felipe Fernanda Gabriel Gustavo Helena Igor
Isabela João Juliana Larissa Leandro Letícia Lucas Luana Luiz Marcelo Márcia Maria Mariana Mateus Natália Otávio
Patrícia Paulo Pedro Rafael Renata Ricardo Rodrigo Sandra Sérgio Simone Tatiane Thiago Vanessa Vinícius
"""
_LAST_NAMES = """
Almeida Alves Araújo Barbosa Batista Cardoso Carvalho Costa Dias Fernandes Ferreira Freitas Gomes Lima Lopes Machado
Martins Mendes Monteiro Moreira Nascimento Nunes Oliveira Pereira Pinto Ribeiro Rocha Rodrigues Santana Santos Silva
Soares Souza Teixeira Vieira
"""
_FIRST, _LAST = _FIRST_NAMES.split(), _LAST_NAMES.split()

_NAME = re.compile(r"[^\W\d_]+(?:[ '’.-]+[^\W\d_]+){0,5}")
_BRAZIL = re.compile(r"55([1-9]\d)(9?)([6-9]\d{7})")


def dialled(text: str) -> str | None:
    """The digits that Meta would dial for a ``to``: with ``+`` as they are, without it after our own country code."""
    digits = re.sub(r"[\s()\-.]", "", text)
    international = digits.startswith("+")
    digits = digits.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        return None
    digits = digits if international else OWN_COUNTRY + digits
    return digits if 7 <= len(digits) <= 15 else None


def wa_id(digits: str) -> str:
    """The account behind a dialled number. Both forms of a Brazilian mobile reach the same one.

    >>> wa_id("5541999990000"), wa_id("554199990000"), wa_id("5541999990001"), wa_id("5511999990000")
    ('554199990000', '554199990000', '5541999990001', '5511999990000')
    """
    found = _BRAZIL.fullmatch(digits)
    if not found:
        return digits
    area, _ninth, rest = found.groups()
    without = int(area) > 28 and int(rest[-1]) % 2 == 0
    return f"55{area}{'' if without else '9'}{rest}"


def with_ninth(account: str) -> str:
    """The number as people write it today, for the phone page."""
    found = _BRAZIL.fullmatch(account)
    return f"55{found[1]}9{found[3]}" if found else account


def name(account: str, called: str = "") -> str:
    """A profile name; with the first name, or all of it, from `called`."""
    if " " in called:
        return called
    drawn = _draw("name", account)
    return f"{called or _FIRST[drawn % len(_FIRST)]} {_LAST[drawn // len(_FIRST) % len(_LAST)]}"


def looks_like_name(text: str) -> bool:
    """Whether a template's first parameter is a person's name rather than an amount or a date."""
    return len(text) <= 40 and bool(_NAME.fullmatch(text))


def user_id(account: str) -> str:
    """The business-scoped user id (Meta: BSUID, ``<country>.<alphanumeric>``)."""
    return f"BR.{_draw('user', account) % 10**16:016d}"


def share(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` only: how everything here is drawn."""
    return _draw(*parts) / 2**64


def _draw(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")
