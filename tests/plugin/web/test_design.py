"""Contrast of the design tokens, computed as WCAG 2.2 does, in the light and the dark scheme."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import plugin.web

_CSS = (Path(plugin.web.__file__).parent / "static" / "tokens.css").read_text()

#: (text, ground): everything that is read must reach 4.5:1.
READ = [
    ("ink", "bg"), ("ink", "surface"), ("ink", "raised"), ("ink", "brand-soft"), ("ink", "line"),
    ("muted", "bg"), ("muted", "surface"), ("muted", "raised"), ("muted", "brand-soft"),
    ("link", "bg"), ("link", "surface"), ("link", "brand-soft"), ("on-brand", "brand"), ("on-brand", "brand-hover"),
    ("ok", "ok-soft"), ("warn", "warn-soft"), ("bad", "bad-soft"), ("info", "info-soft"), ("bad", "surface"),
    ("bubble-ink", "bubble"), ("bubble-ink", "bubble-own"), ("bubble-muted", "bubble"), ("bubble-muted", "bubble-own"),
    ("reply", "bubble"), ("bg", "ink"),
]  # fmt: skip
#: Edges of controls and the focus ring must reach 3:1.
SEEN = [
    ("edge", "surface"),
    ("edge", "bg"),
    ("focus", "bg"),
    ("focus", "surface"),
    ("brand", "line"),
    ("brand", "surface"),
]


def schemes() -> dict[str, dict[str, str]]:
    light, dark = _CSS.split("@media")
    first = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light))
    return {"light": first, "dark": {**first, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark))}}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_knows_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), [(*p, 4.5) for p in READ] + [(*p, 3.0) for p in SEEN])
def test_colours_are_far_enough_apart(scheme: str, front: str, ground: str, least: float) -> None:
    colours = schemes()[scheme]
    assert contrast(colours[front], colours[ground]) >= least


def test_colours_are_named_in_one_file() -> None:
    rest = (Path(plugin.web.__file__).parent / "static" / "desk.css").read_text()
    # The phone's own frame looks the same in both schemes.
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", rest)) <= {"#222b27", "#0b5345", "#fff"}
