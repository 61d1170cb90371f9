"""Connectors are found through credentials.yml; mistakes there have clear words."""

from __future__ import annotations

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
    from dataclasses import replace

    services = open_services(replace(settings(tmp_path, WHATSAPP), secret="x" * 32))
    assert services.key == b"x" * 32
    services.close()
