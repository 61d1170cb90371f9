"""What the demo reads in the sandbox's ledger. The lines are the sandbox's own shapes."""

from __future__ import annotations

from typing import Any

from plugin.cli.phones import Watch

PEOPLE = {"5531900000201": "wamid.A", "5531900000202": "wamid.B", "5531900000203": "wamid.C"}


def template(n: int, account: str, id_: str, name: str = "cobranca") -> dict[str, Any]:
    request = {"template": {"name": name}}
    return {
        "n": n,
        "kind": "message",
        "type": "template",
        "id": id_,
        "wa_id": account,
        "to": f"+{account}",
        "request": request,
    }


def reply(n: int, account: str, id_: str, shown: str) -> dict[str, Any]:
    return {"n": n, "kind": "reply", "wa_id": account, "shown": shown, "answers_to": id_}


def watching() -> Watch:
    watch = Watch("cobranca", 0, people=frozenset(f"+{account}" for account in PEOPLE))
    watch.take(template(n, account, id_) for n, (account, id_) in enumerate(PEOPLE.items(), 1))
    return watch


def test_templates_and_the_phones_that_got_them_are_counted_apart() -> None:
    watch = watching()
    watch.take([template(4, "5531900000201", "wamid.D"), template(5, "5531900000202", "wamid.E", "another")])
    watch.take([template(6, "5531900000999", "wamid.F")])
    assert (len(watch.templates), watch.phones, watch.after) == (4, 3, 6)


def test_only_failures_that_were_taken_in_count_as_reported() -> None:
    watch = watching()
    watch.take(
        [
            {"n": 4, "kind": "acked", "items": ["wamid.A/sent", "wamid.A/failed", "wamid.other/failed", "wamid.R"]},
            {"n": 5, "kind": "dropped", "items": ["wamid.B/failed"]},
        ]
    )
    assert watch.lost == {"wamid.A"}


def test_answers_are_kept_with_who_gave_them_and_opt_outs_apart() -> None:
    watch = watching()
    watch.take(
        [reply(4, "5531900000201", "wamid.A", "Vamos conversar"), reply(5, "5531900000202", "wamid.B", "PARAR!")]
    )
    assert watch.others == ["+5531900000201"]
    assert (watch.opt_outs, watch.unanswered) == (1, 2)
