"""What is done to the processes of a run, drawn by seed: the same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass

from plugin.errors import Invalid

#: Where a dispatcher can die, in the order in which it passes them. `claim.inside` and `settle.inside`: written, not
#: committed. `claim.committed`: no byte of the claimed rows was sent. `send.bytes_out`: the whole request is with the
#: kernel, no answer was read. `send.answered`: read, and not yet settled.
DISPATCHER_POINTS = (
    "claim.before",
    "claim.inside",
    "claim.committed",
    "send.bytes_out",
    "send.answered",
    "settle.inside",
    "settle.committed",
)
#: Where a webhook's receiver can die: read and nothing stored; stored and not committed; committed and not answered.
RECEIVER_POINTS = ("webhook.read", "webhook.inside", "webhook.committed")
POINTS = DISPATCHER_POINTS + RECEIVER_POINTS

#: One random kill in so many is the receiver's.
_RECEIVER_EVERY = 6
#: Recipients per kill below which a run can end before its kills do.
_LEAST_PER_KILL = 10


@dataclass(frozen=True)
class Act:
    """One thing done to one process.

    kind ``kill``: SIGKILL, by itself at the named `point`, from outside when `point` is empty. ``drain``: SIGTERM.
    ``freeze``: SIGSTOP, and SIGCONT when its epoch has long been given up. `share`, in [0, 1), says how far into its
    life: of the rows or seconds that a life may have.
    """

    number: int
    kind: str
    target: str
    share: float
    point: str = ""


def make_plan(seed: int, kills: int, drains: int, freezes: int) -> list[Act]:
    """`kills` kills, every other one at a named point, those in turn; drains and freezes spread among them."""
    draw = random.Random(f"plan:{seed}")
    wanted: list[tuple[str, str, str]] = []
    for number in range(kills):
        if number % 2:
            point = POINTS[number // 2 % len(POINTS)]
            wanted.append(("kill", _target(point), point))
        else:
            receivers = number // 2 % _RECEIVER_EVERY == _RECEIVER_EVERY - 1
            wanted.append(("kill", "receiver" if receivers else "dispatcher", ""))
    for kind, count in (("drain", drains), ("freeze", freezes)):
        for _ in range(count):
            wanted.insert(draw.randrange(len(wanted) + 1), (kind, "dispatcher", ""))
    return [Act(i, kind, target, draw.random(), point) for i, (kind, target, point) in enumerate(wanted)]


def require_room(kills: int, recipients: int) -> None:
    """Raise `Invalid` when the recipients would be used up before the kills are."""
    if recipients < _LEAST_PER_KILL * kills:
        raise Invalid(
            f"{recipients} recipients are too few for {kills} kills: some would hit nothing.",
            f"Take at least {_LEAST_PER_KILL} recipients per kill.",
            field="recipients",
        )


def _target(point: str) -> str:
    return "receiver" if point in RECEIVER_POINTS else "dispatcher"
