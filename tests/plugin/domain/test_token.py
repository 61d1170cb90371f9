"""A button token proves its delivery, and nothing but ours is one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugin.domain.correlation import Correlation
from plugin.domain.token import ButtonToken

KEY = b"k" * 32


@given(st.integers(0, 2**63), st.integers(0, 9))
def test_a_token_reads_back_and_is_short_ascii(delivery: int, button: int) -> None:
    text = ButtonToken(delivery, button).sign(KEY)
    assert len(text) <= 64
    assert text.isascii()
    assert ButtonToken.read(text, KEY) == ButtonToken(delivery, button)


@given(st.integers(0, 2**40), st.data())
def test_a_token_with_one_changed_character_is_refused(delivery: int, data: st.DataObject) -> None:
    text = ButtonToken(delivery, 0).sign(KEY)
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda c: c != text[position]))
    assert ButtonToken.read(text[:position] + other + text[position + 1 :], KEY) is None


@given(st.text(max_size=80))
def test_free_text_is_never_a_token(text: str) -> None:
    assert ButtonToken.read(text, KEY) is None
    assert ButtonToken.read("v1." + text, KEY) is None


def test_a_token_of_another_installation_is_refused() -> None:
    assert ButtonToken.read(ButtonToken(7, 0).sign(b"other" * 8), KEY) is None


def test_a_correlation_reads_back_and_foreign_text_is_none() -> None:
    sent = Correlation("d", 12, 3, "0badcafe")
    assert str(sent) == "v1.d.0badcafe.12.3"
    assert Correlation.read(str(sent), "0badcafe") == sent
    assert Correlation.read(str(sent), "0badcaff") is None, "another installation's"
    ugly = ("v1.x.{}.1.1", "v1.d.{}.1", "v1.d.1.1", "v1.d.{}.-1.1", "v1.d.{}.1.1 ", "v1.d.{}.1.1\n", "v1.d.{}.١.1")
    for text in (None, "", *(form.format("0badcafe") for form in ugly)):
        assert Correlation.read(text, "0badcafe") is None
