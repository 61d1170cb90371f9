from __future__ import annotations

import pytest

from actions.provider import valid_cpf


@pytest.mark.parametrize("text", ["529.982.247-25", "52998224725", " 529 982 247 25 "])
def test_a_cpf_with_right_check_digits_is_taken(text: str) -> None:
    assert valid_cpf(text) == "52998224725"


@pytest.mark.parametrize("text", ["529.982.247-24", "11111111111", "5299822472", "", "abc", "529982247255"])
def test_a_wrong_cpf_is_refused(text: str) -> None:
    assert valid_cpf(text) is None
