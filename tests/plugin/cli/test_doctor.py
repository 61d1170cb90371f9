"""`vamos doctor` on an installation with real files, a real database and the loopback channel."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from plugin.cli.__main__ import main
from plugin.cli.doctor import ACTIONS

CREDENTIALS = 'channels.loopback.LoopbackInput:\n  sender: "111"\n  secret: a-secret\n'


@pytest.fixture
def actions() -> set[str]:
    """What the action server has registered."""
    return {*ACTIONS, "action_own"}


@pytest.fixture
def action_server(actions: set[str]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/actions" else 404)
            self.end_headers()
            self.wfile.write(json.dumps([{"name": name} for name in actions]).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action_server: int) -> Path:
    """An installation with nothing wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAMOS_CONFIG", raising=False)
    (tmp_path / "vamos.yml").write_text("database: sqlite:///v.db\n")
    (tmp_path / "credentials.yml").write_text(CREDENTIALS)
    (tmp_path / "endpoints.yml").write_text(f"action_endpoint: {{url: 'http://127.0.0.1:{action_server}/webhook'}}\n")
    model(tmp_path, sorted(ACTIONS))
    assert main(["operation", "add", "Vendas", "--queue", "Novos"]) == 0
    return tmp_path


def model(project: Path, actions: list[str]) -> None:
    (project / "models").mkdir(exist_ok=True)
    domain = yaml.safe_dump({"actions": actions}).encode()
    with tarfile.open(project / "models" / "m.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("components/domain_provider/domain.yml")
        member.size = len(domain)
        archive.addfile(member, io.BytesIO(domain))


def examine(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    capsys.readouterr()
    code = main(["doctor"])
    return code, capsys.readouterr().err.splitlines()


def test_an_installation_with_nothing_wrong_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = examine(capsys)
    assert code == 0, said
    assert all(line.startswith("ok ") for line in said)
    assert len(said) == 7


def test_a_model_trained_without_our_importer_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model(project, ["action_own", "action_handoff"])
    code, said = examine(capsys)
    assert code == 1
    assert any(line.startswith("WRONG") and "does not know action_redirect." in line for line in said)
    assert any("plugin.importer.VamosImporter" in line for line in said)


@pytest.mark.parametrize("actions", [{"action_own"}])
def test_an_action_server_without_our_actions_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = examine(capsys)
    assert code == 1
    assert any("does not know action_handoff, action_redirect" in line for line in said)
    assert any("from plugin.actions import *" in line for line in said)


def test_an_action_server_that_is_down_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "endpoints.yml").write_text("action_endpoint: {url: 'http://127.0.0.1:9/webhook'}\n")
    code, said = examine(capsys)
    assert code == 1
    assert any("rasa run actions" in line for line in said)


def test_a_missing_model_and_a_damaged_one_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "models" / "m.tar.gz"
    file.write_bytes(b"not a model")
    assert any("m.tar.gz can't be read" in line for line in examine(capsys)[1])
    file.unlink()
    assert any("There is no model in" in line for line in examine(capsys)[1])


def test_every_fault_is_told_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "credentials.yml").write_text("rest: {}\n")
    (project / "endpoints.yml").unlink()
    (project / "models" / "m.tar.gz").unlink()
    code, said = examine(capsys)
    assert code == 1
    wrong = [line.split(":")[0] for line in said if line.startswith("WRONG")]
    assert wrong == [f"WRONG   {name}" for name in ("channels", "operations", "model", "action server")]


def test_outside_of_a_bots_directory_the_way_there_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "credentials.yml").unlink()
    for arguments in (["doctor"], ["suppress", "list"], ["doctor", "--state", str(project / "none")]):
        assert main(arguments) == 1
        said = capsys.readouterr().err
        assert "There is no" in said
        assert "--state DIR" in said
        assert "Errno" not in said


def test_settings_that_cannot_be_read_end_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "vamos.yml").write_text("dispatch: sometimes\n")
    code, said = examine(capsys)
    assert code == 1
    assert said[0].startswith("WRONG   settings and database: dispatch is 'sometimes'")


def test_a_database_that_cannot_be_opened_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "vamos.yml").write_text("database: postgresql://vamos:geheim@127.0.0.1:9/name\n")
    code, said = examine(capsys)
    assert code == 1
    assert said[0].startswith("WRONG   settings and database: The database postgresql://127.0.0.1:9/name can't be")
    assert "geheim" not in "".join(said)


def test_a_database_that_breaks_meanwhile_is_told_and_the_other_checks_go_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(project / "v.db")) as connection:
        connection.execute("ALTER TABLE operation RENAME TO operation_away")
    code, said = examine(capsys)
    assert code == 1
    assert [line for line in said if line.startswith("WRONG")] == [
        "WRONG   operations: no such table: operation",
        "WRONG   broadcasts: no such table: operation",
    ]
    assert any(line.startswith("ok      action server") for line in said)


@pytest.mark.parametrize(
    "endpoints", ["action_endpoint: [1]\n", "action_endpoint: {url: 'http://host:port/webhook'}\n"]
)
def test_an_action_endpoint_that_is_no_address_is_told(
    project: Path, capsys: pytest.CaptureFixture[str], endpoints: str
) -> None:
    (project / "endpoints.yml").write_text(endpoints)
    code, said = examine(capsys)
    assert code == 1
    assert any(line.startswith("WRONG   action server") for line in said)
