"""What a person must know about a broadcast at a glance, in words, and what they may do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugin.domain.hours import SendingHours
from plugin.usecases.report import Report
from plugin.web.render import moment, plural

#: Why somebody waits, in words; {} is how many.
_WAITS = (
    ("hours", "{} fora do horário de envio"),
    ("conversation", "{} em conversa agora"),
    ("frequency", "{} já com o máximo de mensagens do período"),
    ("provider", "{} por um dia, a pedido do provedor"),
    ("retry", "{} à espera de nova tentativa"),
)
_DAYS = ("seg", "ter", "qua", "qui", "sex", "sáb", "dom")


@dataclass(frozen=True)
class Notice:
    """A banner. `tone`: "" or "warn"."""

    title: str
    text: str = ""
    tone: str = ""


def notices(report: Report, now: int = 0) -> list[Notice]:
    """Why the broadcast stands where it stands at `now` (microseconds UTC), the most important first."""
    found = []
    if report.state == "paused":
        title = "Parado até alguém decidir." if report.hold == "restore" else "Disparo pausado."
        found.append(Notice(title, report.state_reason or "Nada mais é enviado até que alguém o retome.", "warn"))
        if report.start_at is not None and report.start_at > now and not report.hold:
            text = "Retomado antes disso, volta a esperar por esse horário; depois, envia na hora."
            found.append(Notice(f"Estava agendado para {moment(report.start_at)}.", text))
    elif report.state == "scheduled":
        found.append(Notice(f"Agendado para {moment(report.start_at)}.", _before(report)))
    elif report.state == "running":
        found += _running(report)
    elif report.state_reason:
        found.append(Notice(report.state_reason, tone="warn"))
    if report.test:
        found.append(
            Notice("Este é um teste.", "Foi só para os números do teste; ninguém do arquivo recebe por causa dele.")
        )
    return found


def _before(report: Report) -> str:
    """Until when nobody gets anything: at the start the sending hours may be closed, on a holiday for instance."""
    start = report.start_at or 0
    opening = SendingHours.from_json(report.hours).opens_anywhere(start) if report.hours else start
    if opening <= start:
        return "Nada é enviado antes disso."
    return f"A essa hora o horário de envio está fechado: ninguém no Brasil recebe antes de {moment(opening)}."


def _running(report: Report) -> list[Notice]:
    found = []
    if report.wake_at is not None:
        title = {
            "hours": "Fora do horário de envio.",
            "daily": "O número já escreveu para tantas pessoas quantas o provedor permite em 24 horas.",
        }.get(report.wait_reason, "Esperando.")
        found.append(Notice(f"{title} Continua em {moment(report.wake_at)}.", "Nada a fazer: recomeça sozinho."))
    wave = report.first_wave
    if wave and wave.get("running"):
        found.append(
            Notice(
                f"Primeira leva: {plural(wave['size'], 'pessoa', 'pessoas')} antes do restante.",
                f"{wave['tried']} de {wave['of']} testados. {_wait(wave)}, o restante segue sozinho. "
                f"Se passar de {_percent(wave['max_opt_outs'])} de descadastros ou "
                f"{_percent(wave['max_failures'])} de falhas, o disparo para e alguém decide.",
            )
        )
    if report.held_until is not None and report.wake_at is None:
        found.append(
            Notice(
                f"O número está em pausa até {moment(report.held_until)} e volta devagar, sozinho.",
                report.held_reason or "O provedor pediu, ou não está respondendo.",
                "warn",
            )
        )
    if waits := [
        words.format(plural(n, "pessoa", "pessoas")) for why, words in _WAITS if (n := report.deferred.get(why))
    ]:
        found.append(Notice("Adiados, nenhum perdido:", "; ".join(waits) + ". Cada linha diz até quando."))
    if report.state_reason:
        found.append(Notice(report.state_reason, tone="warn"))
    return found


def actions(report: Report) -> frozenset[str]:
    """What a person with the permission may do now. The use cases decide again."""
    held, state = report.state == "paused" and report.hold == "restore", report.state
    begun = state in ("running", "paused", "finished") and not held
    possible = {
        "pause": state in ("running", "scheduled"),
        "resume": state == "paused" and not held,
        "reconcile": held,
        "cancel": state in ("running", "paused", "scheduled"),
        "schedule": state == "scheduled",
        "retry": begun and bool(report.failures),
        "resend": begun and bool(report.states.get("unknown")),
    }
    return frozenset(name for name, may in possible.items() if may)


def options(report: Report) -> list[tuple[str, str]]:
    """The launch's own options, where they are not the usual ones: name and words."""
    found = []
    if report.start_at is not None and report.state != "scheduled":
        found.append(("Agendado para", moment(report.start_at)))
    if report.hours:
        found.append(("Horário de envio", hours_words(report.hours)))
    if report.first_wave:
        wave = report.first_wave
        found.append(
            (
                "Primeira leva",
                f"{plural(wave['size'], 'pessoa', 'pessoas')}; para acima de {_percent(wave['max_opt_outs'])} de "
                f"descadastros ou {_percent(wave['max_failures'])} de falhas",
            )
        )
    if report.on_unknown == "resend":
        found.append(("Se a resposta do provedor se perder", "reenviar uma vez"))
    return found


def hours_words(hours: Mapping[str, Any]) -> str:
    """``SendingHours.to_json()`` as people say it."""
    holidays = "também em feriados" if hours["holidays"] else "menos em feriados nacionais"
    return f"{_days(hours['days'])}, das {hours['from']} às {hours['to']} de cada pessoa, {holidays}"


def _days(days: Sequence[int]) -> str:
    if len(days) == len(_DAYS):
        return "todos os dias"
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        return f"de {_DAYS[days[0] - 1]} a {_DAYS[days[-1] - 1]}"
    return ", ".join(_DAYS[day - 1] for day in days)


def _wait(wave: Mapping[str, Any]) -> str:
    minutes = wave["wait_minutes"]
    return f"{plural(minutes, 'minuto', 'minutos')} depois do último envio dela" if minutes else "Depois dela"


def _percent(value: float) -> str:
    return f"{value:.10g}".replace(".", ",") + "\N{NO-BREAK SPACE}%"
