"""`vamos`: the command line. Every command's module is imported when it is called, so that --help is quick."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from plugin import __version__
from plugin.errors import VamosError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 done, 1 failed with a message, 2 wrong arguments, 130 interrupted, 141 nobody reads what is printed (`| head`).
    """
    options = parser().parse_args(arguments)
    # Not at the top: --help must not wait for it.
    from plugin.cli.console import say
    from plugin.connector import SendError

    module, function = options.command.split(":")
    run: Callable[[argparse.Namespace], int] = getattr(import_module(f"plugin.cli.{module}"), function)
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except VamosError as error:
        say(f"\nvamos: {error.message}")
        if error.remedy:
            say(error.remedy)
        return 1
    except SendError as error:
        say(f"\nvamos: the provider answered {error.code or 'nothing'}: {error.message}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still to be printed has nowhere to go, and Python would complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="vamos", description="Active outreach for Rasa bots.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", metavar="COMMAND [...]", required=True)

    run = _command(
        commands,
        "run:run",
        "start everything on this machine, with a local WhatsApp sandbox",
        "Trains the reference bot if needed, starts sandbox, action server, Rasa server and dispatcher, prints the\n"
        "addresses and stops everything on Ctrl-C. Data is kept in the state directory.",
    )
    _state_option(run)
    for name, port in (("rasa", 5005), ("actions", 5055), ("sandbox", 5080)):
        run.add_argument(f"--port-{name}", type=_port, default=port, metavar="N", help=f"default: {port}")

    demo = _command(
        commands,
        "demo:demo",
        "play the whole story by itself and check that every count adds up",
        "Starts a stack of its own on free ports (or uses a running one with --attach), uploads contacts, launches,\n"
        "lets the sandbox's phones answer, lets agents attend, waits until all is settled and prints the report.\n"
        "Without --redirect every row of the redirect table is played, one broadcast each.\n"
        "Exits 0 only when all counts add up.",
    )
    demo.add_argument("--csv", type=Path, metavar="FILE", help="contacts to send to (default: made up)")
    demo.add_argument("--template", metavar="NAME", help="template to send (default: fits the redirect)")
    demo.add_argument("--redirect", choices=("none", "human", "notification"), help="what happens to those who answer")
    demo.add_argument("--queue", metavar="NAME", help="queue for --redirect human")
    demo.add_argument("--agent", metavar="LOGIN", help="agent for --redirect human (ana or bruno)")
    demo.add_argument(
        "--taps", type=_share, metavar="all|none|N%", help="who taps; the others stay silent (default: a mix)"
    )
    demo.add_argument("--contacts", type=_count, default=40, metavar="N", help="made-up contacts a broadcast (40)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed answers the same way (1)")
    demo.add_argument("--rate", type=_count, default=80, metavar="N", help="messages a second (80)")
    demo.add_argument("--timeout", type=_count, default=600, metavar="S", help="give up after S seconds (600)")
    demo.add_argument("--attach", action="store_true", help="use the running `vamos run` instead of a new stack")
    _state_option(demo, "with --attach: its state directory (default: var)")
    demo.add_argument("--keep", action="store_true", help="keep the new stack's directory (logs, database)")
    demo.add_argument("--json", action="store_true", help="print one JSON object to stdout, words to stderr")

    test = _command(
        commands,
        "checks:test",
        "style, types, layers and all tests",
        "Runs ruff, mypy, import-linter, the fast lane and then the full lane (real Rasa, browser).",
    )
    test.add_argument("--fast", action="store_true", help="leave the full lane out")

    crash = _command(
        commands,
        "crash:crash_test",
        "kill what sends, over and over, and check that nobody is lost and nobody written to twice",
        "Sends to a local sandbox with real processes, on a database of its own, and kills them at random and at\n"
        "every named point of a send and of a webhook, while the provider fails too. Then the sandbox's ledger is\n"
        "compared with the database. Exits 0 only when nobody was lost, nobody was accepted twice, no crash left more\n"
        "rows open than the window, and everybody the provider knows is settled.",
    )
    crash.add_argument("--kills", type=_count, default=20, metavar="N", help="processes killed with SIGKILL (20)")
    crash.add_argument("--recipients", type=_count, default=1000, metavar="M", help="made-up recipients (1000)")
    crash.add_argument("--database", metavar="URL", help="empty database to use (default: a new SQLite file)")
    crash.add_argument("--dispatchers", type=_count, default=1, metavar="D", help="that send at the same time (1)")
    crash.add_argument("--window", type=_count, default=16, metavar="N", help="messages in flight of each (16)")
    crash.add_argument("--rate", type=_count, default=1000, metavar="N", help="messages a second (1000)")
    crash.add_argument("--seed", type=int, default=1, metavar="S", help="the same seed kills at the same places (1)")
    crash.add_argument("--keep", action="store_true", help="keep database, ledger and logs")
    crash.add_argument("--json", action="store_true", help="print one JSON object to stdout, words to stderr")

    _command(
        commands,
        "services:worker",
        "send broadcasts (for `dispatch: external`)",
        "Claims deliveries from the database and sends them. Needs no Rasa. Reads vamos.yml (or $VAMOS_CONFIG).\n"
        "SIGTERM lets the messages in flight end first.",
    )
    sandbox = _command(
        commands,
        "services:sandbox",
        "a local WhatsApp Cloud API with a phone page",
        "Passes its arguments on: see `vamos sandbox -- --help`.",
    )
    sandbox.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- …")
    _command(
        commands,
        "services:migrate",
        "bring the database up to this version",
        "Every process does it when it starts; this does it and nothing else.",
    )

    doctor = _command(
        commands,
        "doctor:doctor",
        "check an installation and say what is missing",
        "Looks at the settings, the database, the channels and their provider, the operations, the trained model and\n"
        "the action server. Run it in your bot's directory. Exits 0 only when nothing is wrong.",
    )
    doctor.add_argument("--model", type=Path, metavar="FILE", help="default: the newest in models/")
    doctor.add_argument("--endpoints", type=Path, metavar="FILE", help="default: endpoints.yml")
    _state_option(doctor, "look at the `vamos run` of this state directory instead")

    reconcile = _command(
        commands,
        "reconcile:reconcile",
        "let broadcasts go on that are on hold after the database was put back from a backup",
        "Without arguments: list them. Rows that wait may have been sent after the backup was made. `--rows unknown`\n"
        "sends nothing: the provider's reports settle what they can, the rest is shown as unknown. `--rows send`\n"
        "goes on as before, and some people may get the message twice. Import your suppression list first.",
    )
    reconcile.add_argument("broadcast", nargs="?", metavar="BROADCAST|all", help="its id, or all of them")
    reconcile.add_argument("--rows", choices=("unknown", "send"), help="what becomes of the rows that wait")
    reconcile.add_argument("--accept-risk", action="store_true", help="needed to send; without it, the risk is said")
    _state_option(reconcile, "the state directory of `vamos run` (default: ./vamos.yml when it is there, else var)")

    _user_commands(commands.add_parser("user", help="people who may use the desk"))
    _operation_commands(commands.add_parser("operation", help="operations, their queues and templates"))
    _suppress_commands(commands.add_parser("suppress", help="numbers that must not be written to"))
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], target: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """`target` is ``module:function`` in `plugin.cli`; the function's name, with hyphens, is the command's."""
    made = commands.add_parser(
        target.partition(":")[2].replace("_", "-"),
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(command=target)
    return made


def _user_commands(user: argparse.ArgumentParser) -> None:
    commands = user.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="create a person and print a one-time login link")
    add.add_argument("login")
    add.add_argument("--name", default="", help="as shown to colleagues")
    add.add_argument(
        "--grant",
        action="append",
        default=[],
        metavar="PERMISSION[@OPERATION]",
        help="may be repeated: desk.broadcast, desk.attend, desk.supervise, desk.report, admin;"
        " without @OPERATION: in every operation",
    )
    add.set_defaults(command="user:add")
    link = commands.add_parser("link", help="print a one-time login link")
    link.add_argument("login")
    link.set_defaults(command="user:link")
    for command in (add, link):
        _state_option(command, "the state directory of `vamos run` (default: ./vamos.yml when it is there, else var)")


def _operation_commands(operation: argparse.ArgumentParser) -> None:
    commands = operation.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="create an operation, or add queues and agents to one")
    add.add_argument("name")
    add.add_argument("--number", metavar="ID", help="the provider's id of the sending number (default: the only one)")
    add.add_argument("--queue", action="append", default=[], metavar="NAME", help="may be repeated")
    add.add_argument("--push", metavar="NAME", help="the queue for replies without a redirect of their own")
    add.add_argument("--agent", action="append", default=[], metavar="LOGIN", help="member of these queues; repeatable")
    add.set_defaults(command="operation:add")
    shown = commands.add_parser("list", help="operations with their queues and agents")
    shown.set_defaults(command="operation:show")
    templates = commands.add_parser("templates", help="fetch the provider's templates and list them")
    templates.set_defaults(command="operation:templates")
    for command in (add, shown, templates):
        _state_option(command, "the state directory of `vamos run` (default: ./vamos.yml when it is there, else var)")


def _suppress_commands(suppress: argparse.ArgumentParser) -> None:
    commands = suppress.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = commands.add_parser("add", help="write to a number no more; what waits for it is skipped at once")
    add.add_argument("number")
    add.add_argument("--note", default="", metavar="TEXT", help="why, for the report")
    add.set_defaults(command="suppress:add")
    listed = commands.add_parser(
        "import", help="the same for a list: a CSV with a phone column, or one number a line; 1 when lines were refused"
    )
    listed.add_argument("file", type=Path)
    listed.set_defaults(command="suppress:import_list")
    undo = commands.add_parser("undo", help="let later broadcasts reach a number again")
    undo.add_argument("number")
    undo.add_argument("--reason", required=True, metavar="TEXT", help="kept in the audit log with the old entry")
    undo.add_argument(
        "--accept-risk",
        action="store_true",
        help="also of a person who opted out at the provider, which goes on refusing",
    )
    undo.set_defaults(command="suppress:undo")
    shown = commands.add_parser("list", help="who and why, as CSV, newest first")
    shown.add_argument("--source", choices=("word", "button", "provider", "import", "person"), help="only from there")
    shown.add_argument("--search", metavar="TEXT", help="a number, some of its digits, or words of the detail")
    shown.set_defaults(command="suppress:show")
    for command in (add, listed, undo, shown):
        _state_option(command, "the state directory of `vamos run` (default: ./vamos.yml when it is there, else var)")


def _state_option(command: argparse.ArgumentParser, text: str = "database, logs, secrets (default: var)") -> None:
    command.add_argument("--state", type=Path, metavar="DIR", help=text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _share(text: str) -> float:
    """``all``, ``none`` or ``N%`` as a share between 0 and 1."""
    if text in ("all", "none"):
        return 1.0 if text == "all" else 0.0
    number = text.removesuffix("%")
    if not text.endswith("%") or not number.isdecimal() or int(number) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not all, none or a percentage such as 30%")
    return int(number) / 100


if __name__ == "__main__":
    sys.exit(main())
