"""What `vamos demo` plays: the rows of the redirect table (DESIGN §2), and made-up contacts for each."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

#: How the phones answer when nothing else is said: taps, typed replies, opt-out words, silence.
MIX = {"tap": 0.35, "text": 0.2, "opt_out": 0.05, "silence": 0.4}

TALK = "cobranca_vamos_conversar"
NO_BUTTON = "aviso_manutencao"
OFFER = "oferta_upgrade"

#: Area codes in use (Anatel, Plano Nacional de Numeração): a few of them.
_AREAS = (11, 21, 27, 31, 41, 47, 51, 61, 62, 71, 81, 85, 91, 92)
_FIRST = ("Ana", "José", "Márcia", "João", "Antônia", "Luís", "Conceição", "Sebastião", "Íris", "Raí", "Zoé", "Otávio")
_LAST = ("Souza", "Araújo", "Gonçalves", "Lima", "Falcão", "D'Ávila", "Sá", "Brandão", "Queirós", "Peçanha")
_VALUES: Mapping[str, Sequence[str]] = {
    "valor": ("R$ 99,90", "R$ 129,90", "R$ 1.249,00"),
    "vencimento": ("10/12/2026", "15/12/2026", "20/12/2026"),
    "bairro": ("Savassi", "Vila Mariana", "Boa Viagem", "Água Verde"),
    "janela": ("das 2h às 5h", "das 13h às 15h"),
    "plano": ("Fibra 500", "Fibra 700", "Fibra 1 Giga"),
    "preco": ("R$ 119,90", "R$ 149,90"),
}
#: Numbers with a behaviour of their own in the sandbox: fails afterwards, is refused, hides its number, taps without
#: context, never says that it has read.
_ENDINGS = ("0026", "0126", "0077", "0033", "0088")
#: What the positional placeholders of the sandbox's templates stand for.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    TALK: ("nome", "valor", "vencimento"),
    NO_BUTTON: ("nome", "bairro", "janela"),
    OFFER: ("nome", "plano", "preco"),
}


@dataclass(frozen=True)
class Scenario:
    """One broadcast of the demonstration.

    `outcome` is what a reply that is no opt-out must become; "" when the template's talk button decides.
    """

    title: str
    template: str
    redirect: str
    outcome: str
    queue: str | None = None
    agent: str | None = None
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)


def redirect_table() -> list[Scenario]:
    """Every row of the redirect table, in its order."""
    return [
        Scenario("none, talk button: push queue", TALK, "none", "human"),
        Scenario("none, no button: bot starts over", NO_BUTTON, "none", "bot"),
        Scenario("human, talk button: chosen queue and agent", TALK, "human", "human", "Cobrança", "ana"),
        Scenario("human, no button: chosen queue", NO_BUTTON, "human", "human", "Vendas"),
        Scenario("notification", TALK, "notification", "notification"),
        Scenario("opt-out words", NO_BUTTON, "human", "human", "Vendas", mix={"opt_out": 0.5, "silence": 0.5}),
    ]


def contacts(template: str, parameters: Sequence[str], count: int, generator: random.Random) -> bytes:
    """A file as a Brazilian office has it: semicolons, mixed number formats, and a few lines that can't be sent.

    Args:
        count: lines that can be sent; four more are a number too short, a duplicate, an empty line and a landline's
            missing area code.
    """
    headers = _HEADERS.get(template, tuple(parameters))
    rows = list(_people(headers, count, generator))
    broken = [["31 9876", *rows[0][1:]], rows[0], [""] * (1 + len(headers)), ["3333-4444", *rows[0][1:]]]
    for row in broken:
        rows.insert(generator.randint(1, len(rows)), row)
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=";", lineterminator="\r\n")
    writer.writerow(["Telefone", *(header.capitalize() for header in headers)])
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8-sig")


def _people(headers: Sequence[str], count: int, generator: random.Random) -> Iterator[list[str]]:
    endings = list(_ENDINGS[: count // 4])
    seen: set[str] = set()
    while len(seen) < count:
        area, digits = generator.choice(_AREAS), str(generator.randint(9_6000_0000, 9_9999_9999))
        if endings:
            digits = digits[:5] + endings.pop()
        if digits in seen:
            continue
        seen.add(digits)
        telephone = generator.choice(
            (
                f"+55 {area} {digits[:5]}-{digits[5:]}",
                f"({area}) {digits[:5]}-{digits[5:]}",
                f"{area}{digits}",
                f"0{area} {digits[0]} {digits[1:5]}-{digits[5:]}",
            )
        )
        name = f"{generator.choice(_FIRST)} {generator.choice(_LAST)}"
        yield [telephone, *(name if h == "nome" else generator.choice(_VALUES.get(h, ("–",))) for h in headers)]
