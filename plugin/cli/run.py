"""`vamos run`: everything on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import time

from plugin.cli.console import say, step
from plugin.cli.seed import AGENTS, OPERATOR, login_link, seed
from plugin.cli.stack import Stack, default_state, require_checkout, terminated_as_interrupt
from plugin.cli.state import Ports

#: Seconds between two looks at the processes.
_LOOK = 0.5


def run(options: argparse.Namespace) -> int:
    """Start, print where everything is, and watch."""
    require_checkout()
    ports = Ports(sandbox=options.port_sandbox, actions=options.port_actions, rasa=options.port_rasa)
    stack = Stack(options.state or default_state(), ports=ports)
    with terminated_as_interrupt(), stack:
        with step("demonstration data and templates"):
            seed(stack.services)
        _print_addresses(stack)
        try:
            while True:
                stack.check()
                time.sleep(_LOOK)
        except KeyboardInterrupt:
            say("\nstopping …")
    say("stopped; your data is in " + str(stack.state.directory))
    return 0


def _print_addresses(stack: Stack) -> None:
    say("\nVamos is running.\n")
    say(f"  Desk (operator)   {login_link(stack.services, stack.desk_url, OPERATOR)}")
    for login, name in AGENTS.items():
        say(f"  Desk ({name})  {login_link(stack.services, stack.desk_url, login)}")
    say(f"  Phones            {stack.sandbox_url}/")
    say(f"  Logs              {stack.state.logs}")
    say("\n  The links log in once, within 15 minutes; a new one: ./vamos user link LOGIN")
    say("  Stop with Ctrl-C.\n")
