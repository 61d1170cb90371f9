"""Numbers and names of the sandbox's phones."""

from __future__ import annotations

import pytest

from channels.whatsapp.sandbox import people


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("+55 (41) 99999-0000", "5541999990000"),
        ("41999990000", "5541999990000"),
        ("+351912345678", "351912345678"),
        ("+1", None),
        ("+12345678901234567", None),
        ("zap", None),
        ("", None),
    ],
)
def test_a_to_is_dialled_as_meta_does(text: str, digits: str | None) -> None:
    assert people.dialled(text) == digits


def test_both_forms_of_a_brazilian_mobile_are_one_account_and_a_landline_is_left_alone() -> None:
    assert people.wa_id("5541999990000") == people.wa_id("554199990000")
    assert people.wa_id("5511999990000") == people.wa_id("551199990000") == "5511999990000"
    assert people.wa_id("554132345678") == "554132345678"
    assert people.with_ninth(people.wa_id("5541999990000")) == "5541999990000"


def test_a_phone_is_called_as_the_first_template_called_it() -> None:
    assert people.name("5531999990001", "Ana").startswith("Ana ")
    assert people.name("5531999990001", "Ana Maria Souza") == "Ana Maria Souza"
    assert people.name("5531999990001") == people.name("5531999990001")
    names = [
        people.looks_like_name(text) for text in ("Ana", "D'Ávila", "José da Silva", "R$ 10", "05/12", "", "x" * 50)
    ]
    assert names == [True, True, True, False, False, False, False]
