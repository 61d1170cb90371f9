from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from plugin.cli.state import PortInUse, Ports, State
from plugin.errors import ConfigurationError, Invalid
from plugin.settings import load


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "a state")


@pytest.mark.parametrize("name", ["sandbox", "actions", "rasa"])
def test_a_port_in_use_is_named_with_its_owner_and_the_option_that_helps(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports(**{**vars(Ports.free()), name: taken.getsockname()[1]})
        with pytest.raises(PortInUse) as caught:
            ports.check()
    assert f"Port {getattr(ports, name)}" in caught.value.message
    assert f"--port-{name} N" in caught.value.remedy


def test_one_port_for_two_servers_is_refused_by_both_names() -> None:
    with pytest.raises(
        Invalid, match=r"WhatsApp sandbox and the Rasa server can't both listen on port 15080"
    ) as caught:
        Ports(sandbox=15080, actions=15055, rasa=15080).check()
    assert "--port-sandbox N or --port-rasa N" in caught.value.remedy


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = Ports.free()
    assert len(set(vars(ports).values())) == 3
    ports.check()


def test_secrets_are_random_kept_and_private(state: State, tmp_path: Path) -> None:
    first = state.secrets()
    assert state.secrets() == first
    assert State(tmp_path / "another").secrets() != first
    assert all(len(value) >= 32 for value in first.values())
    assert (state.directory / "secrets.json").stat().st_mode & 0o077 == 0


def test_damaged_secrets_are_told_with_the_remedy(state: State) -> None:
    (state.directory / "secrets.json").write_text("{")
    with pytest.raises(ConfigurationError, match="Delete it"):
        state.secrets()


def test_the_written_configuration_is_read_by_the_product(state: State) -> None:
    ports = Ports(sandbox=11, actions=12, rasa=13)
    state.write_configuration(ports, {"rate": 80})
    settings = load(state.settings, {})
    assert settings.database == f"sqlite:///{state.directory}/vamos.db"
    assert settings.credentials == str(state.credentials)
    assert (settings.rate, settings.dispatch, settings.public_url) == (80, "external", "http://127.0.0.1:13")
    credentials = yaml.safe_load(state.credentials.read_text())
    assert credentials["channels.whatsapp.WhatsAppInput"]["base_url"] == "http://127.0.0.1:11"
    assert "channels.desk.DeskInput" in credentials
    endpoints = yaml.safe_load(state.endpoints.read_text())
    assert endpoints["action_endpoint"]["url"] == "http://127.0.0.1:12/webhook"
    for file in (state.settings, state.credentials, state.endpoints):
        assert file.stat().st_mode & 0o077 == 0, file


def test_two_stacks_cannot_share_a_directory(state: State) -> None:
    with state.lock(), pytest.raises(ConfigurationError, match="--state DIR"), State(state.directory).lock():
        pass
    with State(state.directory).lock():
        pass


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--state DIR"):
        State(tmp_path / "file" / "var")
