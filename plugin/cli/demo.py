"""`vamos demo`: the whole story, played by HTTP against real parts, and every count checked at the end."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from plugin.cli.attendants import Attendants, Attended
from plugin.cli.console import Progress, say, stdout, step, table
from plugin.cli.desk import Desk
from plugin.cli.phones import Phones, Watch
from plugin.cli.scenarios import MIX, TALK, Scenario, contacts, redirect_table
from plugin.cli.seed import AGENTS, OPERATOR, seed
from plugin.cli.stack import Running, Stack, attach, default_state, require_checkout, terminated_as_interrupt
from plugin.cli.state import Ports
from plugin.cli.tally import Observed, moving, problems, total, unredirected
from plugin.domain.address import canonical
from plugin.errors import ConfigurationError, Invalid, NotFound, VamosError
from plugin.usecases.access import make_login_link

#: Seconds between two looks at the counts.
_LOOK = 0.25
#: Seconds without any change after which counts that disagree are taken as final.
_STILL = 20.0
#: Seconds in which a process whose connections broke is seen to be dead.
_LAST_WORDS = 3.0


class NotSettled(VamosError):
    """The deadline passed while something was still moving."""

    code = "not_settled"


class StackGone(VamosError):
    """A server of the stack stopped answering, and no dead process explains it."""

    code = "stack_gone"


class DoesNotAddUp(VamosError):
    """An equation between upload, report, ledger and phones does not hold."""

    code = "does_not_add_up"


@dataclass
class Play:
    """Everybody on stage: the operator, the agents, the phones."""

    operator: Desk
    attendants: Attendants
    phones: Phones
    operation: Mapping[str, Any]
    templates: Mapping[str, Mapping[str, Any]]
    check: Callable[[], None]


def demo(options: argparse.Namespace) -> int:
    """Play, print, and return 0 only when everything adds up."""
    if not options.attach:
        require_checkout()
    scenarios = _scenarios(options)
    file = _read(options.csv) if options.csv else None
    wrong: list[str] = []
    reports: list[dict[str, Any]] = []
    with terminated_as_interrupt(), _stage(options) as play:
        started = time.monotonic()
        for number, scenario in enumerate(scenarios):
            generator = random.Random(f"{options.seed}:{number}")
            report, found = _play(play, scenario, file, generator, options)
            reports.append({"title": scenario.title, **report})
            wrong += [f"{scenario.title}: {problem}" for problem in found]
        summary = total(reports, time.monotonic() - started)
        _print_table(reports, to_stderr=options.json)
        if options.json:
            stdout(json.dumps({**summary, "broadcasts": reports, "problems": wrong}, ensure_ascii=False))
        if wrong:
            raise DoesNotAddUp("Some counts do not add up:\n  " + "\n  ".join(wrong))
        say(f"Everything adds up: {len(reports)} broadcasts, {summary['rows']} lines, {summary['seconds']:.0f} s.")
    return 0


# --------------------------------------------------------------------------- what is played
def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    if (options.queue or options.agent) and options.redirect != "human":
        raise Invalid("--queue and --agent choose a human.", "Add --redirect human.")
    mix = None if options.taps is None else {"tap": options.taps, "silence": 1 - options.taps}
    if options.redirect is None and options.template is None:
        return [scenario if mix is None else replace(scenario, mix=mix) for scenario in redirect_table()]
    kind, template = options.redirect or "none", options.template or TALK
    outcome = "" if kind == "none" else kind
    queue = options.queue or (None if kind != "human" or options.agent else "Cobrança")
    return [Scenario(kind, template, kind, outcome, queue, options.agent, mix or MIX)]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}.", "Check --csv.") from error


# --------------------------------------------------------------------------- the stage
@contextlib.contextmanager
def _stage(options: argparse.Namespace) -> Iterator[Play]:
    """A stack (new, or the running one) with everybody logged in."""
    with contextlib.ExitStack() as cleanup:
        if options.attach:
            running: Running = cleanup.enter_context(attach(options.state or default_state()))
        else:
            running = cleanup.enter_context(_new_stack(options))
        cleanup.enter_context(_explained(running))
        with step("operation, queues, agents and templates"):
            seeded = seed(running.services)
        phones = Phones(running.sandbox_url)
        cleanup.callback(phones.close)
        if options.attach:  # the sandbox goes on: its phones must not go on answering
            cleanup.callback(_hush, phones)
        desks: dict[str, Desk] = {}
        for login in (OPERATOR, *AGENTS):
            desks[login] = Desk(running.desk_url, make_login_link(running.services.store, login))
            cleanup.callback(desks[login].close)
        operator = desks.pop(OPERATOR)
        operation = next(one for one in operator.operations() if one["id"] == seeded.operation)
        templates = {one["name"]: one for one in operator.templates(seeded.operation)}
        attendants = Attendants(list(desks.values()), seeded.operation)
        yield Play(operator, attendants, phones, operation, templates, running.check)


@contextlib.contextmanager
def _explained(running: Running) -> Iterator[None]:
    """Instead of a broken connection, the reason for it: the log of the process that died."""
    try:
        yield
    except httpx.HTTPError as error:
        deadline = time.monotonic() + _LAST_WORDS
        while time.monotonic() < deadline:
            running.check()
            time.sleep(0.1)
        raise StackGone(
            f"The stack does not answer as it should: {error or type(error).__name__}.", "Look into its logs."
        ) from error


def _hush(phones: Phones) -> None:
    try:
        phones.answer(None)
    except httpx.HTTPError as error:
        say(f"The sandbox could not be told that its phones stop answering: {error}")


@contextlib.contextmanager
def _new_stack(options: argparse.Namespace) -> Iterator[Running]:
    """A stack of our own on free ports. Its directory goes when all went well, and stays to be looked at otherwise."""
    directory = options.state or Path(tempfile.mkdtemp(prefix="vamos-demo-"))
    keep = options.keep or options.state is not None
    stack = Stack(directory, ports=Ports.free(), settings={"rate": options.rate}, isolated=True)
    try:
        with stack:
            yield stack
    except BaseException:
        say(f"Logs and database of this run: {directory}")
        raise
    if keep:
        say(f"Logs and database of this run: {directory}")
    else:
        shutil.rmtree(directory)


# --------------------------------------------------------------------------- one broadcast
def _play(
    play: Play, scenario: Scenario, file: bytes | None, generator: random.Random, options: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    """Upload, launch, wait until all is settled; the report, and what doesn't add up in it."""

    def outcome(redirect: Mapping[str, Any]) -> str:
        if redirect is chosen and scenario.outcome:
            return scenario.outcome
        by_button = "human" if template["talk_button"] else "bot"
        return by_button if redirect["kind"] == "none" else str(redirect["kind"])

    template = _template(play, scenario.template)
    if file is None:
        file = contacts(scenario.template, template["parameters"], options.contacts, generator)
    name = options.csv.name if options.csv else f"{scenario.template}.csv"
    with step(f"{scenario.title}: {scenario.template}") as progress:
        started = time.monotonic()
        watch = play.phones.watch(scenario.template)
        play.phones.answer(options.seed, scenario.mix)
        upload = play.operator.upload(play.operation["id"], template["id"], name, file)
        chosen = _redirect(play.operation, scenario)
        # A line of the file may have a redirect of its own, which wins over the broadcast's.
        listed = play.operator.upload_rows(upload["id"]) if upload["columns"].get("redirect") else ()
        own = {canonical(row["address"]): row["redirect"] for row in listed if row["redirect"]}
        broadcast = play.operator.launch(
            {
                "operation": play.operation["id"],
                "upload": upload["id"],
                "template": template["id"],
                "redirect": chosen,
            }
        )
        addresses = (row["address"] for row in play.operator.rows(broadcast))
        watch.people = frozenset(canonical(address) for address in addresses if address)
        report, attended = _settle(play, broadcast, watch, started + options.timeout, progress)
    observed = Observed(
        upload=upload,
        report=report,
        sent=len(watch.templates),
        phones=watch.phones,
        lost=len(watch.lost),
        opt_outs=watch.opt_outs,
        outcomes=Counter(outcome(own.get(address, chosen)) for address in watch.others),
        unanswered=watch.unanswered,
        attended=len(attended),
        misplaced=sum(not _is_where(case, play.operation, own.get(case.address, chosen)) for case in attended),
    )
    by = Counter(row["redirected_by"] for row in play.operator.rows(broadcast) if row["redirected_by"])
    seconds = round(time.monotonic() - started, 1)
    return {**report, "redirected_by": dict(by), "seconds": seconds}, problems(observed)


def _is_where(case: Attended, operation: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    """Whether a case landed with the chosen queue and agent; neither chosen: in the push queue."""
    human = chosen["kind"] == "human"
    queue, agent = (chosen["queue"], chosen["agent"]) if human else (None, None)
    if queue is None and agent is None:
        queue = operation["push_queue"]
    return bool(case.queue == queue and agent in (None, case.agent))


def _settle(
    play: Play, broadcast: str, watch: Watch, deadline: float, progress: Progress
) -> tuple[dict[str, Any], list[Attended]]:
    """Let agents and phones work until nothing moves; the final report and the cases attended."""
    attended: list[Attended] = []
    before: object = None
    changed = time.monotonic()
    while True:
        play.check()
        attended += play.attendants.work(broadcast, watch.people)
        # In this order: what the phones have done by now, then what the product made of it.
        pending = play.phones.pending()
        play.phones.look(watch)
        report = play.operator.report(broadcast)
        open_points = {
            "messages on their way": moving(report),
            "webhooks of the sandbox": pending["webhooks"],
            "answers that phones are about to give": pending["answers"],
            "replies not taken in yet": len(watch.replies) - report["replied"] - report["unattributed"],
            "replies not redirected yet": unredirected(report),
            "cases not attended yet": report["redirected"].get("human", 0) - len(attended),
            "answers of agents on their way": len({case.text for case in attended} - set(watch.texts)),
            "phones that wait for an answer": watch.unanswered,
        }
        waiting = ", ".join(f"{count} {what}" for what, count in open_points.items() if count)
        if not waiting:
            # The bot's last answers may have opened cases too.
            play.attendants.work(broadcast, watch.people)
            return report, attended
        now = time.monotonic()
        if waiting != before:
            before, changed = waiting, now
        elif now - changed > _STILL and not pending["webhooks"] and not pending["answers"] and not moving(report):
            # Nothing moves any more, so the counts are final: the equations will say which of them is wrong.
            say(f"  nothing moves any more, but: {waiting}")
            return report, attended
        if now > deadline:
            raise NotSettled(
                f"After the time allowed there are still {waiting}.",
                "Look into the logs; for a large file or a slow machine: --timeout SECONDS.",
            )
        progress.tick(waiting)
        time.sleep(_LOOK)


def _template(play: Play, name: str) -> Mapping[str, Any]:
    if name not in play.templates:
        raise NotFound(f"There is no template {name!r}.", f"There is: {', '.join(play.templates)}.")
    return play.templates[name]


def _redirect(operation: Mapping[str, Any], scenario: Scenario) -> dict[str, str | None]:
    agent = AGENTS.get(scenario.agent or "", scenario.agent)
    return {
        "kind": scenario.redirect,
        "queue": _id(operation["queues"], scenario.queue, "queue"),
        "agent": _id(operation["agents"], agent, "agent"),
    }


def _id(named: Sequence[Mapping[str, str]], name: str | None, what: str) -> str | None:
    if name is None:
        return None
    for one in named:
        if name == one["name"]:
            return one["id"]
    raise NotFound(f"There is no {what} {name!r}.", f"There is: {', '.join(one['name'] for one in named)}.")


# --------------------------------------------------------------------------- the table
_FIGURES = (
    "rows", "accepted", "rejected", "skipped", "sent", "delivered", "read", "failed", "unknown",
    "replied", "human", "bot", "notification", "opt_out", "unattributed", "seconds",
)  # fmt: skip


def _print_table(reports: Sequence[Mapping[str, Any]], *, to_stderr: bool) -> None:
    """One column for each broadcast: six of them fit into 80 characters."""
    for number, report in enumerate(reports, 1):
        say(f"  {number}  {report['title']} ({report['template']})")
    flat = [
        {**report, **report["states"], **report["redirected"], "skipped": sum(report["skipped"].values())}
        for report in reports
    ]
    lines = [[figure, *(str(each.get(figure, 0)) for each in flat)] for figure in _FIGURES]
    table(["", *(str(number) for number in range(1, len(reports) + 1))], lines, to_stderr=to_stderr)
