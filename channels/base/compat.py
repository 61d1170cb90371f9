"""The one module that touches what Rasa does not promise to keep. Everything here does nothing, and says so, when the
installed Rasa looks different."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

#: Looks like a slash; Rasa reads only a real one at the start of a message as an intent.
_DIVISION_SLASH = "\N{DIVISION SLASH}"


def plain_text(text: str) -> str:
    """`text` as the person typed it, unable to name an intent.

    Rasa takes a message that begins with ``/`` for an intent with entities (``/restart``, ``/inform{"cpf": …}``):
    meant for buttons, open to whoever types it. The first slash becomes U+2215, which the eye and the tokenizer read
    alike. Spaces before it go too: Rasa strips them before it looks.
    """
    stripped = text.strip()
    return _DIVISION_SLASH + stripped[1:] if stripped.startswith("/") else stripped


def compile_action_schema() -> bool:
    """Check action server replies against Rasa's schema compiled once. Returns whether that is now so.

    Rasa 3.6 validates its own constant schema again on each custom action (`RemoteAction._validate_action_result`):
    19 ms of CPU a time, during which the whole server stands still. The replies are checked as before, with the same
    errors. Calling it again changes nothing.
    """
    try:
        from jsonschema import ValidationError
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for
        from rasa.core.actions.action import RemoteAction
        from rasa.shared.constants import DOCS_BASE_URL

        original = RemoteAction._validate_action_result
        schema = RemoteAction.action_response_format_spec()
    except (ImportError, AttributeError, TypeError) as error:
        log.info("This Rasa validates action replies in another way (%s); its own is kept", error)
        return False
    if getattr(original, "vamos_compiled", False):
        return True
    if original.__module__ != RemoteAction.__module__:
        log.info("RemoteAction._validate_action_result was already replaced by %s; it is kept", original.__module__)
        return False
    validator_class = validator_for(schema)
    validator_class.check_schema(schema)
    validator = validator_class(schema)

    def validate(self: Any, result: dict[str, Any]) -> bool:
        error = best_match(validator.iter_errors(result))
        if error is None:
            return True
        assert isinstance(error, ValidationError)
        error.message += (
            ". Failed to validate Action server response from API, make sure your response from the Action endpoint "
            f"is valid. For more information about the format visit {DOCS_BASE_URL}/custom-actions"
        )
        raise error

    validate.vamos_compiled = True  # type: ignore[attr-defined]
    validate.vamos_original = original  # type: ignore[attr-defined]
    RemoteAction._validate_action_result = validate
    return True


def restore_action_schema() -> None:
    """Undo `compile_action_schema`; for the benchmark."""
    from rasa.core.actions.action import RemoteAction

    original = getattr(RemoteAction._validate_action_result, "vamos_original", None)
    if original is not None:
        RemoteAction._validate_action_result = original
