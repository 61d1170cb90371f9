"""The sandbox's control interface: what its phones got, and what they answer by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from plugin.domain.address import canonical
from plugin.domain.template import fold

#: What the sandbox's phones type or tap to be left alone. Kept apart from the product's own list: this one judges it.
_OPT_OUT = frozenset(map(fold, ("parar", "pare", "sair", "descadastrar", "não quero mais")))


@dataclass
class Watch:
    """What the ledger says about one broadcast, read on as it grows.

    `people` are the canonical addresses it goes to, `after` the ledger's line at which it began. `templates` are ids of
    accepted templates, `lost` those of them that were reported as failed afterwards, `replies` the phones' answers to
    them (canonical address, text), `texts` the session messages they got.
    """

    template: str
    after: int
    people: frozenset[str] = frozenset()
    templates: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    replies: list[tuple[str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    _accounts: dict[str, str] = field(default_factory=dict)
    _unanswered: set[str] = field(default_factory=set)

    def take(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Count these lines."""
        for entry in entries:
            self.after = entry["n"]
            if entry["kind"] == "message" and entry["type"] == "template":
                named, address = entry["request"].get("template", {}).get("name"), canonical(entry["to"])
                if named == self.template and address in self.people:
                    self.templates.add(entry["id"])
                    self._accounts[entry["wa_id"]] = address
            elif entry["kind"] == "message" and entry["wa_id"] in self._accounts:
                self.texts.append(entry["shown"].get("body", ""))
                self._unanswered.discard(entry["wa_id"])
            elif entry["kind"] == "reply" and entry.get("answers_to") in self.templates:
                self.replies.append((self._accounts[entry["wa_id"]], entry["shown"]))
                self._unanswered.add(entry["wa_id"])
            elif entry["kind"] == "acked":
                told = (key.rpartition("/") for key in entry["items"])
                self.lost.update(id_ for id_, _, status in told if status == "failed" and id_ in self.templates)

    @property
    def phones(self) -> int:
        """Phones that got the template."""
        return len(self._accounts)

    @property
    def unanswered(self) -> int:
        """Phones that replied and have heard nothing since."""
        return len(self._unanswered)

    @property
    def opt_outs(self) -> int:
        return len(self.replies) - len(self.others)

    @property
    def others(self) -> list[str]:
        """Who answered anything else than an opt-out: canonical addresses."""
        return [address for address, shown in self.replies if fold(shown) not in _OPT_OUT]


class Phones:
    """Raises `httpx.HTTPError` when the sandbox is gone or refuses."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def answer(self, seed: int | None, mix: Mapping[str, float] | None = None) -> None:
        """Let every phone that gets a template answer by itself; with `seed` None no longer."""
        answers = None if seed is None else {"seed": seed, "mix": dict(mix or {})}
        self._http.put("/sandbox/config", json={"answers": answers}).raise_for_status()

    def pending(self) -> dict[str, int]:
        """What is still to happen by itself: webhooks to be acknowledged, answers to be given."""
        found = self._get("/sandbox/idle")
        return {name: int(found[name]) for name in ("webhooks", "answers")}

    def watch(self, template: str) -> Watch:
        """Begin to watch: what is in the ledger now doesn't count."""
        watch = Watch(template, 0)
        while entries := self._entries(watch.after):
            watch.after = entries[-1]["n"]
        return watch

    def look(self, watch: Watch) -> None:
        """Bring `watch` up to date."""
        while entries := self._entries(watch.after):
            watch.take(entries)

    def _entries(self, after: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/sandbox/ledger", after=after)["items"]
        return found

    def _get(self, path: str, **query: Any) -> Any:
        answer = self._http.get(path, params=query)
        answer.raise_for_status()
        return answer.json()
