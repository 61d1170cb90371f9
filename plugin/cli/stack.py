"""The whole product on one machine: sandbox, action server, Rasa server and dispatcher under one supervisor."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx

from plugin.bootstrap import Services, open_services
from plugin.cli.console import step
from plugin.cli.model import ensure_model, environment
from plugin.cli.process import Child, stop_all
from plugin.cli.state import PHONE_NUMBER_ID, WABA_ID, Ports, State
from plugin.errors import ConfigurationError, VamosError
from plugin.settings import load, read_yaml

#: The checkout: where the reference bot's `config/`, `data/` and `actions/` are.
PROJECT = Path(__file__).resolve().parents[2]

#: Seconds for everything to become healthy (Rasa imports TensorFlow: 10 s on a laptop, a minute on a busy machine).
START_LIMIT = 240.0
#: Seconds for everything to end by itself after SIGTERM.
STOP_LIMIT = 20.0
#: What `vamos worker` prints when it has begun to claim.
WORKER_READY = "dispatching"

NAMES = ("sandbox", "actions", "rasa", "worker")


class NotHealthy(VamosError):
    """A process runs but did not become healthy in time."""

    code = "not_healthy"


class Running(Protocol):
    """A running stack as those see it who use it."""

    @property
    def sandbox_url(self) -> str: ...
    @property
    def desk_url(self) -> str: ...
    @property
    def services(self) -> Services: ...
    def check(self) -> None: ...


class Stack:
    """Starts the four processes on a state directory and stops them. Use it as a context manager.

    Args:
        directory: database, secrets, logs and generated configuration; kept between starts.
        ports: where to listen.
        settings: values for vamos.yml beside the generated ones.
        isolated: ignore VAMOS_* variables of the caller's environment (demo and tests).
        model: the bot's model; None trains the reference bot when its model is missing or old.

    Children die with the thread that starts them (see `Child`): start and restart from the main thread.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports | None = None,
        settings: Mapping[str, Any] | None = None,
        isolated: bool = False,
        model: Path | None = None,
        project: Path = PROJECT,
    ) -> None:
        self.state = State(directory)
        self.ports = ports or Ports()
        self.project = project
        self._settings = dict(settings or {})
        self._isolated = isolated
        self._model = model
        self._children: dict[str, Child] = {}
        self._cleanup = contextlib.ExitStack()
        self._services: Services | None = None

    # ---------------------------------------------------------------- addresses
    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.sandbox}"

    @property
    def rasa_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.rasa}"

    @property
    def desk_url(self) -> str:
        return f"{self.rasa_url}/desk"

    @property
    def services(self) -> Services:
        """The product's parts on this stack's database, for use cases called from here."""
        if self._services is None:
            self._services = open_services(load(self.state.settings, self._environment()))
        return self._services

    # ---------------------------------------------------------------- life
    def start(self) -> None:
        """Start everything and return when all of it is healthy; on an error, stop what was started.

        Raises:
            VamosError: port in use, no model, dead child, not healthy in time; each says what to do.
        """
        try:
            self._cleanup.enter_context(self.state.lock())
            self.ports.check()
            model = self._model or ensure_model(self.project, self.state.logs)
            self.state.write_configuration(self.ports, self._settings)
            _ = self.services  # brings the schema up to date before four processes look at it
            self._children = self._define(model)
            with step("starting sandbox, action server, Rasa server and dispatcher") as progress:
                for child in self._children.values():
                    child.start()
                self._wait_healthy(NAMES, progress.tick)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every process: first politely, after `STOP_LIMIT` seconds by force."""
        # The sandbox last: what the others still send must not fail.
        stop_all([self._children[name] for name in reversed(NAMES) if name in self._children], STOP_LIMIT)
        if self._services is not None:
            self._services.close()
            self._services = None
        self._cleanup.close()

    def check(self) -> None:
        """Raise `ChildDied` if a process that should run doesn't."""
        for child in self._children.values():
            child.check()

    def kill(self, name: str) -> None:
        """End one process at once, as a crash would; it stays down until `revive`."""
        self._children[name].kill()

    def revive(self, *names: str) -> None:
        """Start processes again after `kill` and wait until they are healthy."""
        for name in names:
            if not self._children[name].running:
                self._children[name].start()
        self._wait_healthy(names)

    def log(self, name: str) -> str:
        """The present log of one process."""
        return self._children[name].log.read_text(encoding="utf-8", errors="replace")

    def pid(self, name: str) -> int | None:
        return self._children[name].pid

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---------------------------------------------------------------- children
    def _environment(self) -> dict[str, str]:
        inherited = environment()
        if self._isolated:
            inherited = {name: value for name, value in inherited.items() if not name.startswith("VAMOS_")}
        return {**inherited, "VAMOS_CONFIG": str(self.state.settings)}

    def _define(self, model: Path) -> dict[str, Child]:
        secrets = self.state.secrets()
        webhook = f"{self.rasa_url}/webhooks/whatsapp/webhook"
        sandbox = ["channels.whatsapp.sandbox", "--port", str(self.ports.sandbox), "--state", str(self.state.sandbox)]
        sandbox += ["--webhook", webhook, "--phone-number-id", PHONE_NUMBER_ID, "--waba-id", WABA_ID]
        rasa = ["rasa", "run", "-m", str(model), "-i", "127.0.0.1", "-p", str(self.ports.rasa)]
        rasa += ["--credentials", str(self.state.credentials), "--endpoints", str(self.state.endpoints)]
        commands = {
            "sandbox": sandbox,
            "actions": ["rasa_sdk", "--actions", "actions", "--port", str(self.ports.actions)],
            "rasa": rasa,
            "worker": ["plugin.cli", "worker"],
        }
        shared = self._environment()
        # Every user of the machine can read command lines.
        own = {"sandbox": {f"VAMOS_SANDBOX_{name.upper()}": secrets[name] for name in ("access_token", "app_secret")}}
        return {
            name: Child(
                name,
                [sys.executable, "-m", *command],
                self.state.logs / f"{name}.log",
                self.project,
                {**shared, **own.get(name, {})},
            )
            for name, command in commands.items()
        }

    # ---------------------------------------------------------------- health
    def _wait_healthy(self, names: tuple[str, ...], tick: Callable[[str], None] = lambda detail: None) -> None:
        waiting = list(names)
        deadline = time.monotonic() + START_LIMIT
        with httpx.Client(timeout=5, trust_env=False) as client:
            while waiting:
                for name in list(waiting):
                    self._children[name].check()
                    if self._healthy(name, client):
                        waiting.remove(name)
                if not waiting:
                    return
                if time.monotonic() > deadline:
                    child = self._children[waiting[0]]
                    raise NotHealthy(
                        f"{child.name} is not healthy after {START_LIMIT:.0f} s."
                        f" The end of {child.log}:\n{child.tail()}",
                        "Look there for the reason; on a very slow machine, start again.",
                    )
                tick("waiting for " + ", ".join(waiting))
                time.sleep(0.2)

    def _healthy(self, name: str, client: httpx.Client) -> bool:
        if name == "worker":
            return WORKER_READY in self.log("worker")
        address = {
            "sandbox": f"{self.sandbox_url}/sandbox/health",
            "actions": f"http://127.0.0.1:{self.ports.actions}/health",
            "rasa": f"{self.desk_url}/health",
        }[name]
        try:
            return client.get(address).status_code == 200
        except httpx.TransportError:
            return False


def is_checkout() -> bool:
    """Whether the reference bot is there; beside a package installed from a wheel it is not."""
    return (PROJECT / "pyproject.toml").exists() and (PROJECT / "config" / "config.yml").exists()


def require_checkout() -> None:
    """Raise `ConfigurationError` unless this runs from a checkout."""
    if not is_checkout():
        raise ConfigurationError(
            f"This command needs a checkout of the project; {PROJECT} holds the installed package only.",
            "Run ./vamos in a checkout. For a bot of your own there are vamos doctor, worker, operation and user.",
        )


def default_state() -> Path:
    """The state directory when none is named: beside the checkout, wherever the command was called from; without a
    checkout in the present directory."""
    return PROJECT / "var" if is_checkout() else Path("var")


@dataclass(frozen=True)
class _Attached:
    sandbox_url: str
    desk_url: str
    services: Services

    def check(self) -> None:
        """Another process watches over it."""


@contextlib.contextmanager
def attach(directory: Path) -> Iterator[Running]:
    """The stack that another `vamos run` has on `directory`.

    Raises:
        ConfigurationError: there is none.
    """
    file = directory / "vamos.yml"
    if not file.exists():
        raise ConfigurationError(f"There is no {file}.", "Start ./vamos run first, or name its directory with --state.")
    settings = load(file)
    whatsapp = read_yaml(Path(settings.credentials))["channels.whatsapp.WhatsAppInput"]
    desk = f"{settings.public_url}/desk"
    try:
        httpx.get(f"{desk}/health", timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise ConfigurationError(f"Nothing answers at {desk}: {error}.", "Start it with ./vamos run.") from error
    services = open_services(settings)
    try:
        yield _Attached(whatsapp["base_url"], desk, services)
    finally:
        services.close()


@contextlib.contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block the way Ctrl-C does, so that everything is stopped on the way out."""

    interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        # Once is enough: a second one would break off the cleaning up. Only a person may insist, with Ctrl-C.
        if not interrupted or number == signal.SIGINT:
            interrupted = True
            raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody ignores it on purpose
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
