"""Actions of the reference bot: an internet provider's invoice copy and connection status.

A real bot asks the provider's systems here. This one derives its answers from the CPF and the contract number, so
that the same customer always sees the same invoice and no customer data has to be shipped.
"""

from __future__ import annotations

import re
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

from rasa_sdk import Action, FormValidationAction, Tracker
from rasa_sdk.events import EventType, SlotSet
from rasa_sdk.executor import CollectingDispatcher

__all__ = ["ActionSegundaVia", "ActionStatusConexao", "ValidateInvoiceForm"]

_PLANS = (("Fibra 300 Mega", 8990), ("Fibra 500 Mega", 10990), ("Fibra 1 Giga", 14990))
_DISTRICTS = ("Savassi", "Pampulha", "Barreiro", "Buritis")


def valid_cpf(text: str) -> str | None:
    """The 11 digits of a CPF whose two check digits are right, else None."""
    digits = re.sub(r"\D", "", text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return None
    for length in (9, 10):
        total = sum(int(digit) * weight for digit, weight in zip(digits, range(length + 1, 1, -1), strict=False))
        if int(digits[length]) != total * 10 % 11 % 10:
            return None
    return digits


def _reais(cents: int) -> str:
    return f"R$ {cents // 100},{cents % 100:02d}"


class ActionSegundaVia(Action):
    """Says the open invoice of the CPF in the slot and forgets the CPF."""

    def name(self) -> str:
        return "action_segunda_via"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> list[EventType]:
        cpf = valid_cpf(tracker.get_slot("cpf") or "")
        if cpf is None:
            dispatcher.utter_message(response="utter_ask_cpf")
            return [SlotSet("cpf", None)]
        seed = zlib.crc32(cpf.encode())
        plan, cents = _PLANS[seed % len(_PLANS)]
        due = datetime.now(timezone.utc).date() + timedelta(days=3 + seed % 10)
        dispatcher.utter_message(
            text=f"Encontrei a fatura do CPF terminado em {cpf[-2:]}: {plan}, {_reais(cents)}, "
            f"vence em {due:%d/%m/%Y}. Código para pagamento: 8460{cents:08d}{seed:010d}."
        )
        return [SlotSet("cpf", None)]


class ActionStatusConexao(Action):
    """Says whether the contract's line is up; without a contract, how to find its number."""

    def name(self) -> str:
        return "action_status_conexao"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> list[EventType]:
        contract = tracker.get_slot("contract")
        if not contract:
            dispatcher.utter_message(
                text="Não há queda geral na rede agora. Reinicie o modem e aguarde 2 minutos. Para eu ver a sua linha, "
                'mande "status do contrato" com o número que está na fatura, por exemplo FC-204518.'
            )
            return []
        seed = zlib.crc32(contract.upper().encode())
        district = _DISTRICTS[seed % len(_DISTRICTS)]
        if seed % 3 == 0:
            text = f"O contrato {contract.upper()} está sem sinal: há manutenção no bairro {district} até as 18h."
        else:
            text = f"A linha do contrato {contract.upper()} está ativa e com sinal bom no bairro {district}."
        dispatcher.utter_message(text=text)
        return []


class ValidateInvoiceForm(FormValidationAction):
    """Refuses a CPF whose check digits are wrong."""

    def name(self) -> str:
        return "validate_invoice_form"

    def validate_cpf(
        self, value: Any, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any
    ) -> dict[str, Any]:
        cpf = valid_cpf(str(value))
        if cpf is None:
            dispatcher.utter_message(text="Esse CPF não confere. Confira os números, por favor.")
        return {"cpf": cpf}
