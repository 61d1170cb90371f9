"""The little of JSON Schema that we use, once for checking bodies and once for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from plugin.errors import Invalid

Schema = Mapping[str, Any]

_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
#: The same as people read it: what a page sends may be refused too.
_WORDS = {
    "string": "um texto",
    "integer": "um número inteiro",
    "number": "um número",
    "boolean": "true ou false",
    "object": "um objeto",
    "array": "uma lista",
    "null": "null",
}


def body(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object of exactly these properties: an unknown one is refused, not ignored."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def text(limit: int = 200, **more: Any) -> Schema:
    return {"type": "string", "maxLength": limit, **more}


def listed(item: Schema, limit: int, least: int = 1) -> Schema:
    """An array of `least` to `limit` items."""
    return {"type": "array", "items": item, "minItems": least, "maxItems": limit}


def moment(value: str | None, field: str) -> int | None:
    """An RFC 3339 time as microseconds UTC; None stays None.

    Raises:
        Invalid: it is no time, or lacks its offset from UTC.
    """
    if value is None:
        return None
    try:  # Python 3.10 knows no Z
        found = datetime.fromisoformat(f"{value[:-1]}+00:00" if value[-1:] in ("Z", "z") else value)
        if found.tzinfo is not None:
            return int(found.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        pass
    raise Invalid(f"{field} não é data e hora com o fuso.", "Escreva como em 2026-11-23T09:30:00-03:00.", field=field)


def nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def check(value: Any, schema: Schema, field: str = "") -> None:
    """Refuse a value that doesn't fit.

    Raises:
        Invalid: `field` is the dotted name of the culprit.
    """
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_is(value, t) for t in types):
        raise Invalid(f"{field or 'O corpo'} deve ser {' ou '.join(_WORDS[t] for t in types)}.", field=field)
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        raise Invalid(f"{field} deve ser um destes: {', '.join(map(str, schema['enum']))}.", field=field)
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", 1_000_000):
            raise Invalid(f"{field} passa de {schema['maxLength']} caracteres.", "Encurte-o.", field=field)
        if "\0" in value:
            raise Invalid(f"{field} tem um caractere nulo (NUL).", "Tire-o.", field=field)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            raise Invalid(f"{field} deve ficar entre {low} e {high}.", field=field)
    if isinstance(value, dict):
        _check_object(value, schema, field)
    if isinstance(value, list):
        _check_list(value, schema, field)


def _is(value: Any, kind: str) -> bool:
    # bool is an int in Python, not in JSON.
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _check_list(value: list[Any], schema: Schema, field: str) -> None:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        raise Invalid(f"{field} deve ter de {least} a {most} itens.", field=field)
    for index, item in enumerate(value):
        check(item, schema.get("items", {}), _join(field, str(index)))


def _check_object(value: dict[str, Any], schema: Schema, field: str) -> None:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise Invalid(f"Falta {_join(field, name)}.", "Envie-o.", field=_join(field, name))
    for name, item in value.items():
        if name in properties:
            check(item, properties[name], _join(field, name))
        elif schema.get("additionalProperties", True) is False:
            known = ", ".join(properties) or "nenhum"
            raise Invalid(f"O campo {name[:60]!r} não existe.", f"Há estes: {known}.", field=_join(field, name[:60]))
        elif isinstance(schema.get("additionalProperties"), Mapping):
            check(item, schema["additionalProperties"], _join(field, name[:60]))


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
