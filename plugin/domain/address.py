"""Phone numbers: from what a spreadsheet holds to E.164, and the key under which one person's two numbers meet.

`phonenumbers` is the truth. Because it takes some 30 µs a number, the forms that nearly every Brazilian file holds
are recognised by one regular expression compiled from that library's own metadata; anything else falls through.
The ninth digit: Anatel added it to mobile numbers between 2012 and 2016, and Meta's ids may lack it
(docs/decisions.md 17). Texts are for operators, in Portuguese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberType

from plugin.errors import ConfigurationError, Invalid

#: Region of numbers written without a country code.
DEFAULT_REGION = "BR"

#: Kinds that belong to a person or a company one can write to; 0800, 0300, 4004… do not.
_REACHABLE = frozenset(
    {
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.VOIP,
        PhoneNumberType.PERSONAL_NUMBER,
    }
)

_WRITE_IT = "Escreva com DDD, por exemplo (31) 99876-5432; de outro país, com + e o código do país."
_FORMAT_AS_TEXT = (
    "Formate a coluna como Texto na planilha, digite ou cole de novo os números e salve outra vez como CSV: "
    "os dígitos que faltam não podem ser recuperados."
)


class InvalidAddress(Invalid):
    """A cell that is not a number we can write to. `code` is stable, for programs.

    Codes: phone_missing, phone_scientific, phone_letters, phone_extension, phone_many, phone_no_area_code,
    phone_area_code, phone_too_short, phone_too_long, phone_not_reachable, phone_invalid.
    """

    def __init__(self, code: str, message: str, remedy: str = _WRITE_IT) -> None:
        super().__init__(message, remedy, field="address")
        self.code = code


def _patterns(region: str) -> tuple[str, str]:
    """The regular expressions of a region's mobile and fixed-line numbers."""
    plan = PhoneMetadata.metadata_for_region(region)
    mobile = plan and plan.mobile and plan.mobile.national_number_pattern
    fixed = plan and plan.fixed_line and plan.fixed_line.national_number_pattern
    if not mobile or not fixed:
        raise ConfigurationError(
            f"The installed phonenumbers knows no numbering plan for {region}.", "Install phonenumbers 8.13 or later."
        )
    return mobile, fixed


_MOBILE, _FIXED = _patterns("BR")
_COUNTRY_CODE: int = phonenumbers.country_code_for_region("BR")
_PREFIX = f"+{_COUNTRY_CODE}"

#: Anatel's area codes (DDD), as the installed metadata has them.
AREA_CODES: frozenset[str] = frozenset(f"{n}" for n in range(11, 100) if re.fullmatch(_MOBILE, f"{n}961234567"))

# Lengths tell the prefixes apart: a national number has 10 or 11 digits, so "55…" of 10 or 11 digits is area code 55.
# ASCII: digits of other scripts fall through to the library, which converts them.
_COMMON = f"(?:\\+?{_COUNTRY_CODE}|0)?({_MOBILE}|{_FIXED})"
_FAST = re.compile(_COMMON, re.ASCII).fullmatch
#: The number in each line of a text; empty where there is none.
_FAST_LINES = re.compile(f"^(?:{_COMMON}|.*)$", re.ASCII | re.MULTILINE).findall

#: No number is longer; the bound keeps the patterns below harmless on hostile cells.
_LONGEST_CELL = 80

_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d*)?e\s*\+?\d+", re.IGNORECASE)
#: A number that a program wrote as a decimal: 31998765432.0 or 5531998765432,00.
_DECIMAL = re.compile(r"(\d{8,})[.,]0{1,2}")
_EXCEL_TEXT = re.compile(r'=\s*"(.*)"')
_CARRIER_XX = re.compile(r"\(?\s*0\s*x\s*x\s*", re.IGNORECASE)
_EXTENSION = re.compile(r"\d\D*(?:ramal|ext|extens[ãa]o|r\.|#|x)\D*\d{1,6}\s*$", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"[(\s]*00[)\s]*(?=\d)")
#: Between one whole number and the next one.
_NEXT = re.compile(r"[/,;|&\n]+|\s(?:ou|e|or)\s", re.IGNORECASE)
_ALLOWED = re.compile(r"[\d\s+()./\-‐‑‒–—―−]*")
#: Numbers with a form of their own, as they occur in addresses and remarks: CNPJ, CPF, CEP, date, money.
_NO_PHONE = re.compile(
    r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}|\d{3}\.\d{3}\.\d{3}-\d{2}|\b\d{2}\.?\d{3}-\d{3}\b"
    r"|\b\d{1,2}[/.-]\d{1,2}[/.-]\d{4}\b|\b\d{4}-\d{2}-\d{2}\b|R\$\s*[\d.,]+"
)
#: Fewest digits of what somebody may mean by a phone: an old fixed line without its area code.
_FEWEST_DIGITS = 7


def parse(cell: str, region: str = DEFAULT_REGION) -> str:
    """The E.164 number (``+5531998765432``) that a cell means.

    Accepts what people and spreadsheets write: ``(31) 9 9876-5432``, ``031…``, ``0XX31…`` and carrier codes,
    ``55…``, ``+55…``, ``0055…``, other countries with ``+``, a leading apostrophe, ``="…"``, no-break spaces.
    A Brazilian mobile number written without its ninth digit gets it (mandatory in every area code since 2016).

    Raises:
        InvalidAddress: with a stable code, the reason and the remedy.

    >>> parse("(31) 9 9876-5432")
    '+5531998765432'
    """
    if region == "BR":
        found = fast(cell)
        if found is not None:
            return found
    return thorough(cell, region)


def is_address(cell: str) -> bool:
    """Whether `parse` would take it."""
    try:
        parse(cell)
    except InvalidAddress:
        return False
    return True


def is_attempt(cell: str) -> bool:
    """Whether somebody may have meant a phone by `cell`, right or wrong: what stands in a column of phones.

    For telling a contact's line from prose; CEP, CPF, CNPJ, dates and money are no attempts.

    >>> [is_attempt(one) for one in ("5,53E+12", "98765-4321", "31 9876O-5432", "30130-010", "Rua A, 10")]
    [True, True, True, False, False]
    """
    text = _plain(cell[:_LONGEST_CELL])
    if _SCIENTIFIC.fullmatch(text):
        return True
    rest = _NO_PHONE.sub(" ", text)
    return not text[:1].isalpha() and _count(rest) >= _FEWEST_DIGITS and _count(rest) > sum(map(str.isalpha, rest))


def fast(cell: str) -> str | None:
    """`cell` as E.164 when it is one of the common Brazilian forms, else None: then `thorough` decides."""
    match = _FAST(_bare(cell))
    return _PREFIX + match[1] if match else None


def fast_all(cells: Sequence[str]) -> list[str | None]:
    """`fast` of each cell, in half the time: one pass over all of them."""
    found = _FAST_LINES(_bare("\n".join(cells)))
    if len(found) != len(cells):  # a cell of several lines
        return [fast(cell) for cell in cells]
    return [_PREFIX + number if number else None for number in found]


def _bare(text: str) -> str:
    """`text` without what people put between digits and mean nothing by; a dot may be a decimal point."""
    # Takes half the time of one `translate`.
    return text.replace(" ", "").replace("-", "").replace("(", "").replace(")", "").replace("\u00a0", "")


def thorough(cell: str, region: str = DEFAULT_REGION) -> str:
    """`parse` without the fast path. Same results, same errors."""
    if len(cell) > _LONGEST_CELL:
        raise InvalidAddress("phone_letters", "O telefone contém outra coisa além de um número.")
    text = _plain(cell)
    if not text:
        raise InvalidAddress("phone_missing", "O telefone está vazio.")
    if _SCIENTIFIC.fullmatch(text):
        raise InvalidAddress(
            "phone_scientific",
            "A planilha transformou o telefone em notação científica e perdeu dígitos.",
            _FORMAT_AS_TEXT,
        )
    decimal = _DECIMAL.fullmatch(text)
    if decimal:
        text = decimal[1]
    text = _CARRIER_XX.sub("0", text, count=1) if _CARRIER_XX.match(text) else text
    if sum(_count(part) >= 8 for part in _NEXT.split(text)) > 1:
        raise InvalidAddress(
            "phone_many",
            "Há mais de um telefone na célula.",
            "Deixe um telefone por linha; repita a linha para o outro.",
        )
    if _EXTENSION.search(text):
        raise InvalidAddress(
            "phone_extension",
            "O telefone tem ramal; não é possível enviar mensagem a um ramal.",
            "Use o celular do contato.",
        )
    if not _ALLOWED.fullmatch(text):
        raise InvalidAddress("phone_letters", "O telefone contém letras ou símbolos.")
    if not _count(text):
        raise InvalidAddress("phone_missing", "O telefone não tem dígitos.")
    for candidate in _readings(text, region):
        if phonenumbers.is_valid_number(candidate):
            if phonenumbers.number_type(candidate) not in _REACHABLE:
                raise InvalidAddress(
                    "phone_not_reachable",
                    "É um número de serviço (como 0800 ou 4004), que não recebe mensagens.",
                    "Use o celular do contato.",
                )
            return str(phonenumbers.format_number(candidate, phonenumbers.PhoneNumberFormat.E164))
    raise _why_not(text, region)


def _plain(cell: str) -> str:
    """`cell` without what a spreadsheet, a messenger or a copy wrapped around the number."""
    text = cell
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        # Cf: direction marks that WhatsApp puts around a copied number, zero-width spaces, BOM.
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = text.strip()
    quoted = _EXCEL_TEXT.fullmatch(text)
    if quoted:
        text = quoted[1].strip()
    text = text.lstrip("'’`´").strip()
    return text[4:].strip() if text[:4].lower() == "tel:" else text


def _count(text: str) -> int:
    return sum(map(str.isdigit, text))


def _readings(text: str, region: str) -> list[PhoneNumber]:
    """What the text may mean, likeliest first. The first valid one counts."""
    tries: list[tuple[str, str | None]] = [(text, region)]
    international = _INTERNATIONAL.match(text)
    if international:
        # 0055 51 99876-5432 is Porto Alegre. Left to the library, 55 is the carrier and the number Peruvian.
        tries.insert(0, ("+" + text[international.end() :], None))
    numbers = []
    for written, default in tries:
        try:
            number = phonenumbers.parse(written, default)
        except phonenumbers.NumberParseException:
            continue
        numbers.append(number)
        completed = _with_ninth_digit(number)
        if completed is not None:
            numbers.append(completed)
    return numbers


def _with_ninth_digit(number: PhoneNumber) -> PhoneNumber | None:
    """A Brazilian number in the old mobile range (6–9 after the area code), completed; None when it is none."""
    national = str(number.national_number)
    if number.country_code != _COUNTRY_CODE or len(national) != 10 or national[2] not in "6789":
        return None
    return PhoneNumber(country_code=_COUNTRY_CODE, national_number=int(national[:2] + "9" + national[2:]))


def _why_not(text: str, region: str) -> InvalidAddress:
    digits = re.sub(r"\D", "", text)
    plus = text.lstrip("( ").startswith("+")
    if plus and not digits.startswith("55"):
        return InvalidAddress(
            "phone_invalid",
            "O número não existe no plano de numeração do país.",
            "Confira o código do país e os dígitos.",
        )
    if region == "BR":
        national = (digits[2:] if plus or (len(digits) > 11 and digits.startswith("55")) else digits).lstrip("0")
        if len(national) in (8, 9) and national[0] in "23456789":
            return InvalidAddress(
                "phone_no_area_code",
                "O telefone está sem DDD.",
                "Escreva o DDD antes do número, por exemplo (31) 99876-5432.",
            )
        if len(national) in (10, 11) and national[:2] not in AREA_CODES:
            return InvalidAddress(
                "phone_area_code",
                f"O DDD {national[:2]} não existe.",
                "Confira o DDD; número de outro país começa com + e o código do país.",
            )
        if len(national) in (10, 11):
            return InvalidAddress(
                "phone_invalid",
                "O número não existe no plano de numeração: celular tem 9 dígitos e começa com 9, fixo tem 8.",
                "Confira os dígitos; número de outro país começa com + e o código do país.",
            )
        digits = national
    if len(digits) < 8:
        return InvalidAddress("phone_too_short", "O telefone tem poucos dígitos.")
    if len(digits) > 11:
        return InvalidAddress("phone_too_long", "O telefone tem dígitos demais.")
    return InvalidAddress("phone_invalid", "O número não existe no plano de numeração.")


# ------------------------------------------------------------------------------------- one person, two forms
def canonical(address: str) -> str:
    """The key that is the same for both ninth-digit forms of a Brazilian mobile number; other numbers unchanged.

    Takes E.164 with or without ``+`` (a provider's own id of the number) and returns it with ``+``. For keys only:
    what is dialled stays as parsed.

    >>> canonical("+553198765432") == canonical("+5531998765432")
    True
    """
    number = address if address.startswith("+") else "+" + address
    if len(number) == 13 and number.startswith(_PREFIX) and number[5] in "6789":
        return number[:5] + "9" + number[5:]
    return number


def for_spreadsheet(cell: str) -> str:
    """`cell` written so that a spreadsheet keeps it: ``(31) 99876-5432``.

    Twelve or more bare digits become 5,53E+12 in Excel as soon as the file is opened and saved. A foreign number
    keeps its ``+``; what is no number stays as it is.
    """
    found = fast(cell)
    if found is not None:
        return f"({found[3:5]}) {found[5:-4]}-{found[-4:]}"
    try:
        number = phonenumbers.parse(thorough(cell))
    except InvalidAddress:
        return cell
    brazilian = number.country_code == _COUNTRY_CODE
    form = phonenumbers.PhoneNumberFormat.NATIONAL if brazilian else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    return str(phonenumbers.format_number(number, form))


# ------------------------------------------------------------------------------------- for logs and screens
def mask_text(value: str) -> str:
    """Any cell for an error message: the shape stays, the content does not.

    Digits but the last four (of eight or more) and letters but each word's first become ``*``.

    >>> mask_text("(31) 9876-543"), mask_text("Ana Souza")
    ('(**) ***6-543', 'A** S****')
    """
    shown = value[:60]
    keep = 4 if _count(shown) >= 8 else 0
    hide = _count(shown) - keep
    result: list[str] = []
    inside = False
    for c in shown:
        if c.isdigit():
            result.append("*" if hide > 0 else c)
            hide -= 1
        elif c.isalpha():
            result.append("*" if inside else c)
        else:
            result.append(c if c.isprintable() else " ")
        inside = c.isalnum()
    return "".join(result) + ("…" if len(value) > len(shown) else "")
