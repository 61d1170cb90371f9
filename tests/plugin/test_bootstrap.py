"""Connectors are found through credentials.yml; mistakes there have clear words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plugin.bootstrap import open_connectors, open_services
from plugin.errors import ConfigurationError
from plugin.settings import Settings

WHATSAPP = """
channels.whatsapp.WhatsAppInput:
  base_url: http://127.0.0.1:1
  graph_version: v23.0
  phone_number_id: "1"
  waba_id: "2"
  access_token: token-token
  app_secret: secret-secret
  verify_token: verify-verify
"""


def settings(folder: Path, credentials: str) -> Settings:
    (folder / "credentials.yml").write_text(credentials)
    return Settings(database=f"sqlite:///{folder}/v.db", credentials=str(folder / "credentials.yml"))


def test_rasas_own_channels_and_ours_without_a_connector_are_passed_over(tmp_path: Path) -> None:
    text = "rest:\nchannels.desk.DeskInput: {}\nsome_bot.custom.Channel:\n  a: 1\nsingle.Name: {}\n" + WHATSAPP
    assert list(open_connectors(settings(tmp_path, text))) == ["whatsapp"]


def test_a_missing_key_names_the_key(tmp_path: Path) -> None:
    text = WHATSAPP.replace("  access_token: token-token\n", "")
    with pytest.raises(ConfigurationError, match="access_token"):
        open_connectors(settings(tmp_path, text))


def test_values_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"channels\.whatsapp"):
        open_connectors(settings(tmp_path, "channels.whatsapp.WhatsAppInput: [1]"))


def test_services_share_one_button_key_per_database(tmp_path: Path) -> None:
    first, second = (open_services(settings(tmp_path, WHATSAPP)) for _ in range(2))
    assert first.key == second.key
    assert len(first.key) == 64
    with pytest.raises(ConfigurationError, match="telegram"):
        first.connector("telegram")
    first.close()
    second.close()


def test_a_given_secret_is_the_key(tmp_path: Path) -> None:
    services = open_services(replace(settings(tmp_path, WHATSAPP), secret="x" * 32))
    assert services.key == b"x" * 32
    services.close()


def test_a_database_that_cannot_be_opened_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_text("no database, but a text that is longer than a header of one hundred bytes" * 9)
    with pytest.raises(ConfigurationError, match=r"v\.db can't be opened: file is not a database") as caught:
        open_services(settings(tmp_path, WHATSAPP))
    assert "Check the path" in caught.value.remedy
    with pytest.raises(ConfigurationError, match=r"can't be opened: .*Not a directory"):
        open_services(replace(settings(tmp_path, WHATSAPP), database=f"sqlite:///{tmp_path}/v.db/below/x.db"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://vamos:geheim@127.0.0.1:9/name", "postgresql://127.0.0.1:9/name can't be opened"),
        ("postgresql://vamos:ge@heim@127.0.0.1:9/name", "postgresql://127.0.0.1:9/name can't be opened"),
        ("postgresql://127.0.0.1:9/name?user=vamos&password=geheim", "postgresql://127.0.0.1:9/name can't be opened"),
        ("postgresql://vamos:geheim@127.0.0.1:port/name", "'postgresql://127.0.0.1:port/name' can't be read"),
        ("vamos:geheim@host/name", "can't be read"),
        ("mysql://vamos:geheim@127.0.0.1/name", "'mysql://127.0.0.1/name'"),
    ],
)
def test_no_error_of_the_database_shows_its_password(tmp_path: Path, address: str, said: str) -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(ConfigurationError) as caught:
        open_services(replace(settings(tmp_path, WHATSAPP), database=address))
    assert said in str(caught.value)
    assert "heim" not in str(caught.value)
