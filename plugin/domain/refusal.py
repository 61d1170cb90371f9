"""What a provider's refusal means for us: the vocabulary of a channel's error table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reaction(str, Enum):
    """What the core does about a refusal. Only `BACK_OFF` and `PAUSE` concern anybody but this recipient."""

    #: The same recipient again, later and later, at most `tries` times; then it fails.
    RETRY = "retry"
    #: The whole sending number waits `seconds` and comes back slower. Costs the recipient no try.
    BACK_OFF = "back_off"
    #: Too much to this one recipient: it waits 4^n seconds, others go on. Costs no try.
    WAIT = "wait"
    #: This recipient again in `seconds` (a day), at most `tries` times; then it fails.
    DEFER = "defer"
    #: This recipient will not get this message.
    FAIL = "fail"
    #: As `FAIL`, but it smells of a mistake in template or file: the broadcast pauses when it hits the first rows or
    #: one in five of the last fifty.
    SUSPECT = "suspect"
    #: As `FAIL`, and the person is not written to again: they asked the provider.
    SUPPRESS = "suppress"
    #: Nobody will get it until a person acts: the broadcast pauses and says why. Costs no try.
    PAUSE = "pause"


@dataclass(frozen=True)
class Refusal:
    """One row of a channel's error table.

    `seconds` is the wait of `BACK_OFF` and `DEFER`, and the first wait of `RETRY`; `tries` counts further attempts
    of `RETRY` and `DEFER`. `unwell`: it speaks of the provider, not of this recipient or message: enough of it opens
    the number's breaker. The texts are for the operator: what happened, and what to do (empty: nothing).
    """

    code: str
    reaction: Reaction
    pt: str
    en: str
    remedy_pt: str = ""
    remedy_en: str = ""
    seconds: float = 0.0
    tries: int = 0
    unwell: bool = False

    @classmethod
    def unknown(cls, code: str) -> Refusal:
        """What to do about a code that no table knows: try once more, then fail.

        The provider's own words are kept with the row, so the texts send the reader there.
        """
        shown = code.strip() or "?"
        return cls(
            code=code,
            reaction=Reaction.RETRY,
            seconds=2.0,
            tries=1,
            pt=f"O provedor recusou com o código {shown}, que este produto não conhece.",
            en=f"The provider refused with code {shown}, which this product does not know.",
            remedy_pt="Leia a mensagem do provedor nesta linha e procure o código na documentação dele.",
            remedy_en="Read the provider's message on this line and look the code up in its documentation.",
        )

    @property
    def worth_retrying(self) -> bool:
        """Whether the same message to the same recipient may fare better when a person sends it again."""
        return self.reaction not in (Reaction.FAIL, Reaction.SUPPRESS)

    def explanation(self, language: str) -> tuple[str, str]:
        """(what happened, what to do) in Portuguese, or in English for any other language."""
        return (self.pt, self.remedy_pt) if language.lower().startswith("pt") else (self.en, self.remedy_en)
