"""A row's own redirect: columns redirecionamento, fila and atendente."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from plugin.domain.broadcast import redirect_to_json
from plugin.domain.redirect import Redirect, RedirectKind
from plugin.domain.template import fold
from plugin.usecases.setup import Named, OperationInfo

_KINDS = {
    **dict.fromkeys(("sem", "none", "nenhum", "sem redirecionamento"), RedirectKind.NONE),
    **dict.fromkeys(("humano", "human"), RedirectKind.HUMAN),
    **dict.fromkeys(("notificacao", "notificacoes", "notification", "push"), RedirectKind.NOTIFICATION),
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one of the three cells; `part` is kind, queue or agent."""

    part: str
    code: str
    reason: str
    remedy: str


#: The redirect as JSON (empty: the row has none of its own), or problems.
Resolved = tuple[str, tuple[Problem, ...]]


def resolver(operation: OperationInfo) -> Callable[[str, str, str], Resolved]:
    """A function of the three cells' texts (kind, queue, agent). Queue and agent by id or name, and only those of
    `operation`. A queue or agent without a kind means human."""

    @lru_cache(maxsize=4096)  # a file repeats a few combinations, but a hostile one need not
    def resolve(kind: str, queue: str, agent: str) -> Resolved:
        if not (kind or queue or agent):
            return "", ()
        problems: list[Problem] = []
        chosen = _KINDS.get(fold(kind)) if kind else RedirectKind.HUMAN
        if chosen is None:
            problems.append(
                Problem("kind", "redirect_unknown", "Redirecionamento desconhecido.", "Use sem, humano ou notificação.")
            )
        elif chosen is not RedirectKind.HUMAN:
            problems.extend(
                Problem(
                    part,
                    "redirect_conflict",
                    "Só o redirecionamento humano tem fila ou atendente.",
                    "Apague esta célula ou mude o redirecionamento para humano.",
                )
                for part, given in (("queue", queue), ("agent", agent))
                if given
            )
        queue_id = _find(
            queue, operation.queues, problems, "queue", "queue_unknown", "A fila não existe nesta operação."
        )
        agent_id = _find(
            agent, operation.agents, problems, "agent", "agent_unknown", "O atendente não atende nesta operação."
        )
        if problems or chosen is None:
            return "", tuple(problems)
        return orjson.dumps(redirect_to_json(Redirect(chosen, queue_id, agent_id))).decode(), ()

    return resolve


def _find(text: str, known: Sequence[Named], problems: list[Problem], part: str, code: str, reason: str) -> str | None:
    if not text:
        return None
    wanted = fold(text)
    for matches in (
        [one for one in known if text in (one.id, one.name)],
        [one for one in known if fold(one.name) == wanted],
    ):
        if len(matches) == 1:
            return matches[0].id
        if matches:
            problems.append(Problem(part, code, "O nome serve para mais de um.", "Use o código (id) em vez do nome."))
            return None
    names = ", ".join(one.name for one in known[:10])
    problems.append(Problem(part, code, reason, f"Use um destes: {names}." if names else "Apague esta célula."))
    return None
