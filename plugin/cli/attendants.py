"""The agents of `vamos demo`: each takes the cases of a broadcast that it may take, answers and closes them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugin.cli.desk import Desk, Refused
from plugin.domain.address import canonical

#: HTTP status of a case that somebody else was faster with.
_CONFLICT = 409


@dataclass(frozen=True)
class Attended:
    """A case that was answered and closed: whose (canonical address), where it had landed, and what was written."""

    address: str
    queue: str | None
    agent: str | None
    text: str


class Attendants:
    """Cases of people whom the broadcast did not go to are left to their own agents."""

    def __init__(self, agents: Sequence[Desk], operation: str) -> None:
        self._agents = {agent.user_id: agent for agent in agents}
        self._operation = operation
        self._foreign: set[tuple[str, str]] = set()
        self._turns = itertools.cycle(agents)

    def work(self, broadcast: str, people: frozenset[str]) -> list[Attended]:
        """Attend every case that `people` (canonical addresses) have open now: those that `broadcast` led to, which
        are returned, and those that the bot opened on the way, which would swallow the next broadcast's replies."""
        reader = next(iter(self._agents.values()))
        attended = []
        # A case for a chosen agent is theirs from the start; the others wait in a queue.
        for case in reader.cases(self._operation, "queued") + reader.cases(self._operation, "active"):
            agent = self._agents.get(case["agent_id"]) if case["agent_id"] else next(self._turns)
            if agent is None or (broadcast, case["id"]) in self._foreign:
                continue
            view = agent.case(case["id"])
            ours = (view["broadcast"] or {}).get("broadcast") == broadcast
            address = canonical(case["address"] or "")
            if not ours and address not in people:
                self._foreign.add((broadcast, case["id"]))
                continue
            text = self._attend(agent, view["summary"])
            if text and ours:
                attended.append(Attended(address, case["queue_id"], case["agent_id"], text))
        return attended

    def _attend(self, agent: Desk, case: dict[str, Any]) -> str | None:
        # The case's own id makes each answer one of a kind, so that it can be found on the phone.
        text = f"Olá, {case['contact_name'] or 'tudo bem'}! Aqui é {agent.name}. Protocolo {case['id'][-8:]}."
        try:
            taken = agent.take(case["id"], case["version"])
            answered = agent.answer(taken["id"], text)
            agent.close_case(answered["id"], answered["version"], "resolvido")
        except Refused as refused:
            if refused.status == _CONFLICT:  # the contact wrote in between, or a person took it: next round
                return None
            raise
        return text
