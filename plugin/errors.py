"""Every error the product raises on purpose.

::

    VamosError                      the root: has a `code` (stable, for programs) and a `remedy` (for people)
    ├── ConfigurationError          a setting or file is missing or wrong; names the file and key
    ├── NotFound                    missing or foreign: the caller cannot tell which
    │   └── NotSuppressed           the number is not on the suppression list, which the caller sees as a whole
    ├── Forbidden                   the user is known but lacks the permission for this operation
    ├── Unauthenticated             no session, or an expired one
    │   └── TooManyAttempts         this account must wait `seconds` before the next try
    ├── Conflict                    the object is not in the state that the request needs
    │   └── AlreadyLaunched         the key stands for another request, and `existing` is what came of that one
    ├── Invalid                     the request itself is wrong; `field` names the culprit
    │   └── UnreadableFile          the uploaded file as a whole can't be read; `line` where it breaks
    └── SignatureError              a webhook's signature is missing or wrong

Errors of a provider while sending are values of their own: see `plugin.connector.SendError`.
"""

from __future__ import annotations


class VamosError(Exception):
    """Root of the product's errors.

    `message` says what happened, `remedy` what to do about it; both are shown to people.
    """

    code = "error"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigurationError(VamosError):
    """A setting, credential or file is missing or wrong."""

    code = "configuration"


class NotFound(VamosError):
    """The object does not exist, or the user may not know that it does."""

    code = "not_found"


class NotSuppressed(NotFound):
    """The number is not suppressed. Only those who may see the whole list are told."""

    code = "not_suppressed"


class Forbidden(VamosError):
    """The user lacks the permission the action needs."""

    code = "forbidden"


class Unauthenticated(VamosError):
    """There is no valid session."""

    code = "unauthenticated"


class TooManyAttempts(Unauthenticated):
    """Too many failed logins: nothing is compared for the next `seconds`."""

    code = "too_many_attempts"

    def __init__(self, seconds: int) -> None:
        super().__init__("Too many failed attempts.", f"Try again in {seconds} s, or ask for a login link.")
        self.seconds = seconds


class Conflict(VamosError):
    """The object's present state does not allow the action."""

    code = "conflict"


class AlreadyLaunched(Conflict):
    """The idempotency key was used for a launch with other options. `existing` is the id of that broadcast."""

    code = "already_launched"

    def __init__(self, existing: str) -> None:
        super().__init__(
            "O disparo já foi criado, com as opções de antes: o que mudou depois não vale para ele.",
            "Veja esse disparo antes de enviar outro.",
        )
        self.existing = existing


class Invalid(VamosError):
    """The request is wrong. `field` is the name of the input at fault ("" for the request as a whole)."""

    code = "invalid"

    def __init__(self, message: str, remedy: str = "", field: str = "") -> None:
        super().__init__(message, remedy)
        self.field = field


class UnreadableFile(Invalid):
    """The uploaded file can't be read as a table. `line` counts from 1; 0 means the file as a whole."""

    code = "unreadable_file"

    def __init__(self, message: str, remedy: str = "", line: int = 0, code: str = "") -> None:
        super().__init__(message, remedy, field="file")
        self.line = line
        if code:
            self.code = code


class SignatureError(VamosError):
    """A webhook's signature is missing or does not match the raw body."""

    code = "signature"
