"""The agents of `vamos demo`: each takes the cases of a broadcast that it may take, answers and closes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plugin.cli.desk import Desk, Refused

#: HTTP status of a case that somebody else was faster with.
_CONFLICT = 409


class Attendants:
    """`answers` are the texts that were sent, one for each case closed."""

    def __init__(self, agents: Sequence[Desk], operation: str) -> None:
        self._agents = list(agents)
        self._operation = operation
        self._foreign: set[str] = set()
        self._turn = 0

    def work(self, broadcast: str) -> list[str]:
        """Attend every case of `broadcast` that waits now; returns what was written to the contacts.

        Cases of other broadcasts, and those that the bot opened by itself, are left to their own people.
        """
        written = []
        for case in self._agents[0].cases(self._operation, "queued"):
            if case["id"] in self._foreign:
                continue
            view = self._agents[0].case(case["id"])
            if (view["broadcast"] or {}).get("broadcast") != broadcast:
                self._foreign.add(case["id"])
                continue
            said = self._attend(view["summary"])
            if said:
                written.append(said)
        return written

    def _attend(self, case: dict[str, Any]) -> str | None:
        agent = self._agent_for(case)
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

    def _agent_for(self, case: dict[str, Any]) -> Desk:
        for agent in self._agents:
            if agent.user_id == case["agent_id"]:
                return agent
        self._turn += 1
        return self._agents[self._turn % len(self._agents)]
