"""Settings: file, environment, defaults; every mistake names its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from plugin.errors import ConfigurationError
from plugin.settings import Settings, describe, load


def write(folder: Path, text: str) -> Path:
    file = folder / "vamos.yml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_the_defaults_hold_and_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings.database == f"sqlite:///{tmp_path}/var/vamos.db"
    assert settings.credentials == str(tmp_path / "credentials.yml")


def test_the_environment_beats_the_file_and_variables_are_expanded(tmp_path: Path) -> None:
    file = write(tmp_path, "rate: 10\ndatabase: ${DB}\nwindow: 4\n")
    settings = load(file, {"DB": "postgresql://h/d", "VAMOS_RATE": "20"})
    assert (settings.rate, settings.database, settings.window) == (20.0, "postgresql://h/d", 4)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("speed: 3", "speed"),
        ("rate: fast", "rate"),
        ("rate: 0", "rate"),
        ("window: 100000", "window"),
        ("dispatch: sometimes", "dispatch"),
        ("database: ${NOT_SET}", "NOT_SET"),
        ("- a list", "top level"),
        ("a: [", "YAML"),
        ("secret: short", "secret"),
        ("database: [1]", "database"),
        ("database: 'sqlite:///'", "folder"),
        ("database: sqlite:///.", "folder"),
        ("database: sqlite:////", "folder"),
        ("database: sqlite:///new/", "folder"),
        ("max_upload_mb: 0", "max_upload_mb"),
        ("max_upload_mb: -5", "max_upload_mb"),
        ("max_upload_mb: .inf", "max_upload_mb"),
        ("sweep_after: 0", "sweep_after"),
        ("sweep_after: -1", "sweep_after"),
        ("sweep_after: .nan", "sweep_after"),
        ("sweep_after: .inf", "sweep_after"),
        ("sweep_after: 1.0e+300", "sweep_after"),
        ("window: 16.9", "window"),
        ("window: '16.9'", "window"),
        ("window: .inf", "window"),
        ("rate: .nan", "rate"),
        ("rate: -.inf", "rate"),
        ("rate: 5000.1", "more than 0, at most 5000"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        load(write(tmp_path, text), {})


def test_values_at_the_edge_of_their_range_are_taken(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "rate: 0.5\nwindow: 16.0\nmax_upload_mb: 1\nsweep_after: 0.1\n"), {})
    assert (settings.rate, settings.window, settings.max_upload_mb, settings.sweep_after) == (0.5, 16, 1, 0.1)
    assert isinstance(settings.window, int)


def test_a_setting_out_of_range_is_refused_in_code_too() -> None:
    for wrong in ({"sweep_after": math.nan}, {"sweep_after": math.inf}, {"rate": math.nan}, {"max_upload_mb": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Settings(**wrong)


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.yml"):
        load(tmp_path / "gone.yml", {})


def test_every_setting_has_help_and_only_the_key_is_secret() -> None:
    described = describe()
    assert len(described) == len(Settings.__dataclass_fields__)
    assert all(len(d["help"]) > 10 for d in described)
    assert [d["name"] for d in described if d["secret"]] == ["secret"]
