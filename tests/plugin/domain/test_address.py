"""Phone numbers from spreadsheets."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugin.domain.address import (
    AREA_CODES,
    InvalidAddress,
    canonical,
    fast,
    fast_all,
    for_spreadsheet,
    is_address,
    is_attempt,
    mask_text,
    parse,
    thorough,
)

BELO_HORIZONTE = "+5531998765432"


@pytest.mark.parametrize(
    "cell",
    [
        "(31) 9 9876-5432",
        "31998765432",
        "31 99876-5432",
        "31.99876.5432",
        "031 99876-5432",
        "(031) 99876-5432",
        "0XX31 99876-5432",
        "(0xx31) 99876-5432",
        "0 15 31 99876-5432",
        "5531998765432",
        "55 31 99876-5432",
        "+55 31 99876-5432",
        "+55 (031) 99876-5432",
        "(+55) 31 99876-5432",
        "0055 31 99876-5432",
        "'31998765432",
        "'+5531998765432",
        '="31998765432"',
        "31\u00a099876\u00a05432",
        "\u202a+55 31 99876\u20115432\u202c",
        "\ufeff31998765432",
        "３１９９８７６５４３２",
        "  31998765432\t",
        "31998765432.0",
        "5531998765432,00",
        "tel:+55-31-99876-5432",
    ],
)
def test_one_number_is_read_from_everything_people_write(cell: str) -> None:
    assert parse(cell) == BELO_HORIZONTE


@pytest.mark.parametrize("cell", ["(31) 9876-5432", "3198765432", "+55 31 9876-5432", "553198765432", "0313198765432"])
def test_a_mobile_number_without_its_ninth_digit_gets_it(cell: str) -> None:
    assert parse(cell) == BELO_HORIZONTE


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("(31) 3222-1111", "+553132221111"),
        ("55 3222-1111", "+555532221111"),  # area code 55, not the country
        ("55 99876-5432", "+5555998765432"),
        ("5555998765432", "+5555998765432"),
        ("0055 51 99876-5432", "+5551998765432"),  # left to phonenumbers: a Peruvian number by carrier 55
        ("+1 415 555 2671", "+14155552671"),
        ("00 15 1 415 555 2671", "+14155552671"),
        ("+351 912 345 678", "+351912345678"),
        ("+39 06 6982 1234", "+390669821234"),
    ],
)
def test_landlines_area_code_55_and_other_countries(cell: str, expected: str) -> None:
    assert parse(cell) == expected


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("", "phone_missing"),
        (" \u00a0", "phone_missing"),
        ("-", "phone_missing"),
        ("5,531999E+12", "phone_scientific"),
        ("5.53E+12", "phone_scientific"),
        ("5,531999e12", "phone_scientific"),
        ("5E+12", "phone_scientific"),
        ("99876-5432", "phone_no_area_code"),
        ("3222-1111", "phone_no_area_code"),
        ("+55 99876-5432", "phone_no_area_code"),
        ("(20) 99876-5432", "phone_area_code"),
        ("(31) 19876-5432", "phone_invalid"),
        ("14155552671", "phone_invalid"),
        ("+999 1234 5678", "phone_invalid"),
        ("12345", "phone_too_short"),
        ("5531998765432999", "phone_too_long"),
        ("0800 123 4567", "phone_not_reachable"),
        ("4004-1234", "phone_not_reachable"),
        ("31 99876-5432 / 31 98888-7777", "phone_many"),
        ("31998765432;31988887777", "phone_many"),
        ("(31) 3222-1111 ramal 12", "phone_extension"),
        ("31 99876-5432 (Ana)", "phone_letters"),
        ("ana@example.com", "phone_letters"),
        ("1" + "x" * 100_000, "phone_letters"),
    ],
)
def test_what_is_no_number_is_refused_with_a_code_and_a_remedy(cell: str, code: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        parse(cell)
    assert caught.value.code == code
    assert caught.value.message
    assert caught.value.remedy
    assert not is_address(cell)


def test_the_remedy_for_scientific_notation_is_to_format_the_column_as_text() -> None:
    with pytest.raises(InvalidAddress, match="coluna como Texto"):
        parse("5,531999E+12")


def test_there_are_67_area_codes() -> None:
    assert len(AREA_CODES) == 67
    assert {"11", "31", "55", "99"} <= AREA_CODES
    assert not {"20", "23", "25", "30", "90"} & AREA_CODES


# ------------------------------------------------------------------------------------- fast path against the library
def _library(cell: str) -> str | None:
    """E.164 as phonenumbers alone has it."""
    try:
        number = phonenumbers.parse(cell, "BR")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _decorated(digits: str, marks: list[str]) -> str:
    return "".join(mark + digit for mark, digit in zip(marks, digits, strict=True))


_MARKS = st.lists(st.sampled_from(["", "", "", "", " ", "-", "(", ") ", "\u00a0"]), min_size=24, max_size=24)
_PREFIXES = st.sampled_from(["", "0", "55", "+55", "055", "+550", "00", "015", "+"])
_AREA = st.one_of(st.sampled_from(sorted(AREA_CODES)), st.integers(0, 99).map("{:02}".format))
_LOCAL = st.one_of(
    st.integers(900000000, 999999999).map(str),
    st.integers(20000000, 99999999).map(str),
    st.text("0123456789", min_size=0, max_size=11),
)


@settings(max_examples=400, deadline=None)
@given(prefix=_PREFIXES, area=_AREA, local=_LOCAL, marks=_MARKS)
@example(prefix="00", area="55", local="51998765432", marks=[""] * 24)
@example(prefix="55", area="55", local="32221111", marks=[""] * 24)
def test_the_fast_path_never_disagrees_with_phonenumbers(prefix: str, area: str, local: str, marks: list[str]) -> None:
    digits = prefix + area + local
    cell = _decorated(digits, marks[: len(digits)])
    found = fast(cell)
    if found is not None:
        assert found == _library(cell)
        assert found == thorough(cell)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([BELO_HORIZONTE, "(31) 9876-5432", "0 31 3222-1111", "", "3199876543", "31998765432\n"]),
            st.text("0123456789 +-()\n\r\u00a0\u0663a", max_size=14),
        ),
        max_size=6,
    )
)
def test_numbers_looked_at_together_are_read_as_each_would_alone(cells: list[str]) -> None:
    assert fast_all(cells) == [fast(cell) for cell in cells]


def test_the_fast_path_agrees_for_every_area_code_and_leading_digit_and_is_taken() -> None:
    taken = 0
    for area in range(10, 100):
        for lead in range(10, 100):
            for length in (8, 9):
                local = f"{lead}{'1234567'[: length - 2]}"
                for cell in (f"{area}{local}", f"0{area}{local}", f"55{area}{local}", f"+55 ({area}) {local}"):
                    found = fast(cell)
                    assert found is None or found == _library(cell), cell
                    taken += found is not None
    # Per area code: 40 leading pairs of a landline, 10 of a short and 10 of a long mobile number; four ways to write.
    assert taken == 67 * 60 * 4


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=90))
def test_any_text_is_either_a_valid_number_or_an_invalid_address(cell: str) -> None:
    if is_address(cell):
        number = parse(cell)
        assert phonenumbers.is_valid_number(phonenumbers.parse(number))
        assert parse(number) == number


# ------------------------------------------------------------------------------------- one person, two forms
def test_both_ninth_digit_forms_share_one_key() -> None:
    assert canonical("+553198765432") == canonical(BELO_HORIZONTE) == BELO_HORIZONTE
    assert canonical("553198765432") == BELO_HORIZONTE  # as a provider writes it


@pytest.mark.parametrize(
    "address", ["+553132221111", "+5531912345678", "+14155552671", "+351912345678", "+5491123456789"]
)
def test_landlines_new_mobile_ranges_and_other_countries_keep_their_own_key(address: str) -> None:
    assert canonical(address) == address


@settings(max_examples=150, deadline=None)
@given(area=st.sampled_from(sorted(AREA_CODES)), local=st.integers(20000000, 999999999).map(str))
def test_a_key_is_its_own_key_and_no_landline_meets_a_mobile(area: str, local: str) -> None:
    number = f"+55{area}{local}"
    assert canonical(canonical(number)) == canonical(number)
    if len(local) == 8 and local[0] in "2345":
        assert canonical(number) == number
        assert canonical(f"+55{area}9{local}") != number


# ------------------------------------------------------------------------------------- attempts
@pytest.mark.parametrize(
    "cell",
    ["31998765432", "5,531999E+12", "98765-4321", "(00) 99876-5432", "31 9876O-5432", "3222111", "319987654321",
     "31998765432 / Ana", "319987654320000", "31998765432 e 31998765433", "+14155552671"],
)  # fmt: skip
def test_a_cell_that_somebody_meant_as_a_phone_is_an_attempt(cell: str) -> None:
    assert is_attempt(cell)


@pytest.mark.parametrize(
    "cell",
    ["", "Ana", "12", "Rua A, 1234", "30130-010", "30.130-010 Belo Horizonte", "CEP 30130-010", "10/12/2026 09:00",
     "2026-12-10", "529.982.247-25", "12.345.678/0001-90", "R$ 1.200.000,00",
     "protocolo 1234567890", "31 lotes de 1234567 metros",
     "x" * 5000 + "31998765432"],
)  # fmt: skip
def test_prose_and_numbers_with_a_form_of_their_own_are_no_attempts(cell: str) -> None:
    assert not is_attempt(cell)


# ------------------------------------------------------------------------------------- screens
@given(st.text(max_size=80))
def test_a_masked_cell_shows_at_most_four_digits(cell: str) -> None:
    assert sum(c.isdigit() for c in mask_text(cell)) <= 4


def test_a_masked_cell_keeps_its_shape() -> None:
    assert mask_text("(31) 9876-543") == "(**) ***6-543"
    assert mask_text("Ana Souza") == "A** S****"
    assert mask_text("12\n34") == "** **"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("5531998765432", "(31) 99876-5432"),
        ("+1 415 555 2671", "+1 415-555-2671"),
        ("5,53E+12", "5,53E+12"),
        ("99876-5432", "99876-5432"),
    ],
)
def test_a_number_for_a_spreadsheet_survives_it(cell: str, written: str) -> None:
    assert for_spreadsheet(cell) == written
