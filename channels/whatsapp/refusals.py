"""Meta's error table as data: one row per code, with what the core does and what an operator reads.

Source of the codes: Meta, "Cloud API error codes"; the reactions are this project's decision. The code decides, never
the title, which Meta rewords. ``100/33`` is code 100 with subcode 33.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from plugin.domain.causes import of_code
from plugin.domain.refusal import Reaction, Refusal

_RETRY, _BACK_OFF, _WAIT, _DEFER = Reaction.RETRY, Reaction.BACK_OFF, Reaction.WAIT, Reaction.DEFER
_FAIL, _SUSPECT, _SUPPRESS, _PAUSE = Reaction.FAIL, Reaction.SUSPECT, Reaction.SUPPRESS, Reaction.PAUSE

_DAY = 24 * 3600.0

_LATER = ("Nada a fazer: o envio recomeça sozinho, mais devagar.", "Nothing to do: sending resumes by itself, slower.")
_AGAIN = (
    "As novas tentativas são automáticas. Se a linha falhou mesmo assim, reenvie as falhas mais tarde.",
    "It is tried again by itself. If the line failed all the same, retry the failures later.",
)
_PERMISSION = (
    "Dê ao token as permissões whatsapp_business_messaging e whatsapp_business_management, troque-o em"
    " credentials.yml e retome o disparo.",
    "Give the token the permissions whatsapp_business_messaging and whatsapp_business_management, replace it in"
    " credentials.yml and resume the broadcast.",
)
_TOKEN = (
    "Gere um token de acesso novo (de usuário do sistema, que não vence), ponha-o em credentials.yml e retome.",
    "Make a new access token (of a system user, which does not expire), put it into credentials.yml and resume.",
)
_SUPPORT = (
    "Veja o aviso no Gerenciador do WhatsApp, resolva-o ou fale com o suporte da Meta, e só então retome.",
    "See the notice in WhatsApp Manager, settle it or talk to Meta's support, and only then resume.",
)
_PAYMENT = (
    "Acerte a forma de pagamento da conta do WhatsApp no Gerenciador de Negócios da Meta e retome.",
    "Put the payment method of the WhatsApp account right in Meta Business Manager and resume.",
)
_REGISTER = (
    "Registre o número na Cloud API pelo Gerenciador do WhatsApp e retome.",
    "Register the number with the Cloud API in WhatsApp Manager and resume.",
)
_VALUES = (
    "Confira os valores desta linha no arquivo e envie-a de novo num disparo corrigido.",
    "Check this line's values in the file and send it again in a corrected broadcast.",
)
_TEMPLATE = (
    "Confira a mensagem no Gerenciador do WhatsApp (lá, modelo), busque as mensagens de novo e crie um disparo.",
    "Check the template in WhatsApp Manager, refresh the templates here and make a new broadcast.",
)
_RECORD = (
    "Anote o código e a mensagem desta linha e avise quem mantém o sistema: o pedido foi montado errado.",
    "Note this line's code and message and tell whoever maintains the system: the request was built wrongly.",
)
_NOTHING = ("Nada a fazer: não insista.", "Nothing to do: do not insist.")

# fmt: off
_ROWS = (
    # ------------------------------------------------------------------ the account: a person must act
    Refusal("0", _PAUSE, "A Meta não aceitou a autenticação.", "Meta did not accept the authentication.", *_TOKEN),
    Refusal("3", _PAUSE, "O aplicativo não tem a capacidade de usar esta função da API.",
            "The app does not have the capability to use this part of the API.", *_PERMISSION),
    Refusal("10", _PAUSE, "O token de acesso não tem permissão para enviar por este número.",
            "The access token has no permission to send from this number.", *_PERMISSION),
    Refusal("33", _PAUSE, "O número de envio foi excluído da conta.",
            "The sending number was deleted from the account.",
            "Confira phone_number_id em credentials.yml e os números da conta no Gerenciador do WhatsApp.",
            "Check phone_number_id in credentials.yml and the account's numbers in WhatsApp Manager."),
    Refusal("100/33", _PAUSE, "O número de envio não existe ou o token não tem acesso a ele.",
            "The sending number does not exist or the token has no access to it.",
            "Confira phone_number_id e access_token em credentials.yml e retome.",
            "Check phone_number_id and access_token in credentials.yml and resume."),
    Refusal("190", _PAUSE, "O token de acesso venceu ou foi revogado.",
            "The access token has expired or was revoked.", *_TOKEN),
    Refusal("368", _PAUSE, "A conta está bloqueada por um tempo por violar as políticas da Meta.",
            "The account is blocked for a time because it broke Meta's policies.", *_SUPPORT),
    Refusal("131005", _PAUSE, "Acesso negado: falta permissão ao token.",
            "Access denied: the token lacks a permission.", *_PERMISSION),
    Refusal("131031", _PAUSE, "A conta do WhatsApp foi trancada pela Meta.",
            "The WhatsApp account was locked by Meta.", *_SUPPORT),
    Refusal("131037", _PAUSE, "O nome de exibição do número ainda não foi aprovado.",
            "The number's display name is not approved yet.",
            "Peça a aprovação do nome no Gerenciador do WhatsApp e retome depois dela.",
            "Ask for the name's approval in WhatsApp Manager and resume once it is there."),
    Refusal("131042", _PAUSE, "A conta tem um problema de pagamento com a Meta.",
            "The account has a payment problem with Meta.", *_PAYMENT),
    Refusal("131044", _PAUSE, "A conta não tem forma de pagamento válida na Meta.",
            "The account has no valid payment method with Meta.", *_PAYMENT),
    Refusal("131045", _PAUSE, "O número de envio não está registrado na Cloud API.",
            "The sending number is not registered with the Cloud API.", *_REGISTER),
    Refusal("133010", _PAUSE, "O número de envio não está registrado no WhatsApp Business.",
            "The sending number is not registered on WhatsApp Business.", *_REGISTER),
    Refusal("131048", _PAUSE, "O número foi limitado porque muita gente bloqueou ou denunciou as mensagens dele.",
            "The number was limited because many people blocked or reported its messages.",
            "Veja a qualidade do número no Gerenciador do WhatsApp e reveja texto e público antes de retomar.",
            "See the number's quality in WhatsApp Manager and review text and audience before resuming."),
    Refusal("131063", _PAUSE, "Mensagens de marketing estão desativadas neste endereço da API.",
            "Marketing messages are disabled on this endpoint of the API.",
            "Na Meta, volte a permitir marketing pela Cloud API, ou use uma mensagem de utilidade.",
            "At Meta, allow marketing through the Cloud API again, or use a utility template."),
    Refusal("131064", _PAUSE, "Envio limitado porque mensagens da conta foram classificadas na categoria errada.",
            "Sending is limited because templates of the account were put into the wrong category.",
            "O limite acaba sozinho: corrija a categoria das mensagens e retome quando a Meta o retirar.",
            "The limit ends by itself: correct the templates' category and resume once Meta lifts it."),
    Refusal("134011", _PAUSE, "Os termos de pagamentos do WhatsApp não foram aceitos pela empresa.",
            "The business has not accepted WhatsApp's payments terms.",
            "Aceite os termos de pagamentos no Gerenciador do WhatsApp e retome.",
            "Accept the payments terms in WhatsApp Manager and resume."),

    # ------------------------------------------------------------------ template or request: wrong for everybody
    Refusal("131008", _PAUSE, "Falta um parâmetro obrigatório na mensagem.",
            "A required parameter is missing from the message.", *_RECORD),
    Refusal("131051", _PAUSE, "Este tipo de mensagem não é aceito pela Meta.",
            "This type of message is not accepted by Meta.", *_RECORD),
    Refusal("131061", _PAUSE, "A mensagem tem preço máximo definido e não pode ser enviada por este endereço da API.",
            "The template has a maximum price set and can't be sent through this endpoint of the API.",
            "Use uma mensagem sem preço máximo.", "Use a template without a maximum price."),
    Refusal("132000", _PAUSE, "A quantidade de variáveis não é a que a mensagem pede.",
            "The number of variables is not the one the template asks for.", *_TEMPLATE),
    Refusal("132001", _PAUSE, "A mensagem não existe neste idioma ou não está aprovada.",
            "The template does not exist in this language or is not approved.", *_TEMPLATE),
    Refusal("132015", _PAUSE, "A Meta pausou a mensagem por baixa qualidade; envios retidos foram descartados.",
            "Meta paused the template for low quality; messages it held back were dropped.",
            "Espere a Meta reativá-la (ou melhore o texto e peça nova aprovação) e então retome.",
            "Wait until Meta reinstates the template (or improve its text and ask for approval) and then resume."),
    Refusal("132016", _PAUSE, "A Meta desativou a mensagem para sempre, por baixa qualidade.",
            "Meta disabled the template for good, for low quality.",
            "Crie outra mensagem, com outro texto, e um disparo novo para quem falta.",
            "Make another template with another text, and a new broadcast for those who are left."),
    Refusal("132018", _PAUSE, "Os parâmetros não combinam com a configuração da mensagem.",
            "The parameters do not fit the template's configuration.", *_TEMPLATE),
    Refusal("132068", _PAUSE, "O fluxo (Flow) da mensagem está bloqueado.", "The template's flow is blocked.",
            "Corrija o fluxo no Gerenciador do WhatsApp e retome.", "Correct the flow in WhatsApp Manager and resume."),
    Refusal("132069", _PAUSE, "A Meta limitou o fluxo (Flow) da mensagem a 10 envios por hora, porque ele tem erros.",
            "Meta limits the template's flow to 10 messages an hour because it has errors.",
            "Corrija os erros do fluxo no Gerenciador do WhatsApp e retome.",
            "Correct the flow's errors in WhatsApp Manager and resume."),

    # ------------------------------------------------------------------ pace: the sending number waits
    Refusal("4", _BACK_OFF, "O aplicativo passou do limite de chamadas à API.",
            "The app went over its limit of calls to the API.", *_LATER, seconds=120),
    Refusal("80007", _BACK_OFF, "A conta do WhatsApp passou do limite de envios.",
            "The WhatsApp account went over its rate limit.", *_LATER, seconds=60),
    Refusal("130429", _BACK_OFF, "O número está enviando mais rápido do que a Meta permite.",
            "The number is sending faster than Meta allows.", *_LATER, seconds=2),
    Refusal("131057", _BACK_OFF, "A Meta está em manutenção neste número (aumento de capacidade).",
            "Meta is doing maintenance on this number (an upgrade of its capacity).", *_LATER, seconds=60),
    Refusal("2494100", _BACK_OFF, "O número está em manutenção na Meta.", "The number is in maintenance at Meta.",
            *_LATER, seconds=60),

    # ------------------------------------------------------------------ this recipient, later
    Refusal("131056", _WAIT, "Mensagens demais para esta mesma pessoa em pouco tempo.",
            "Too many messages to this one person in a short time.",
            "Nada a fazer: esta pessoa espera e as outras seguem.",
            "Nothing to do: this person waits and the others go on."),
    Refusal("131049", _DEFER, "A Meta não entregou: esta pessoa já recebeu marketing demais nestes dias.",
            "Meta did not deliver: this person has had too many marketing messages these days.",
            "Insistir antes de um dia piora. Se a linha espera, há uma nova tentativa sozinha, depois de 24 horas; se"
            " falhou, reenvie só um dia depois, ou não insista.",
            "Insisting within a day makes it worse. If the line waits, it is tried once more by itself, after 24 hours;"
            " if it failed, send it again only a day later, or do not insist.",
            seconds=_DAY, tries=1),
    Refusal("1", _RETRY, "A Meta não soube dizer o que houve.", "Meta could not say what happened.", *_AGAIN,
            seconds=2, tries=1, unwell=True),
    Refusal("2", _RETRY, "O serviço da Meta está fora do ar ou sobrecarregado.",
            "Meta's service is down or overloaded.", *_AGAIN, seconds=5, tries=3, unwell=True),
    Refusal("131000", _RETRY, "Algo deu errado na Meta.", "Something went wrong at Meta.", *_AGAIN,
            seconds=2, tries=3, unwell=True),
    Refusal("131016", _RETRY, "Um serviço da Meta está indisponível.", "A service of Meta is unavailable.", *_AGAIN,
            seconds=5, tries=3, unwell=True),
    Refusal("133004", _RETRY, "O servidor da Meta está indisponível.", "Meta's server is unavailable.", *_AGAIN,
            seconds=5, tries=3, unwell=True),
    Refusal("131053", _RETRY, "A Meta não conseguiu buscar a mídia da mensagem.",
            "Meta could not fetch the message's media.",
            "Confira se o endereço da mídia abre de fora da sua rede, e o tipo e o tamanho do arquivo.",
            "Check that the media's address opens from outside your network, and the file's type and size.",
            seconds=30, tries=2),
    Refusal("135000", _RETRY, "A Meta recusou um parâmetro sem dizer qual.",
            "Meta refused a parameter without saying which.", *_VALUES, seconds=2, tries=1),

    # ------------------------------------------------------------------ this recipient will not get it
    Refusal("130403", _FAIL, "Nossa empresa bloqueou esta pessoa no WhatsApp.",
            "Our business has blocked this person on WhatsApp.",
            "Se foi engano, desbloqueie a pessoa no Gerenciador do WhatsApp.",
            "If that is a mistake, unblock the person in WhatsApp Manager."),
    Refusal("130472", _FAIL, "A pessoa está num experimento da Meta e não recebe marketing agora.",
            "The person is in an experiment of Meta's and gets no marketing now.", *_NOTHING),
    Refusal("131021", _FAIL, "O destinatário é o próprio número de envio.",
            "The recipient is the sending number itself.",
            "Tire esta linha do arquivo.", "Take this line out of the file."),
    Refusal("131026", _FAIL,
            "Não foi possível entregar: o número não tem WhatsApp, bloqueou a empresa, usa um aplicativo antigo ou não"
            " aceitou os termos.",
            "Undeliverable: the number has no WhatsApp, blocked the business, runs an old app or has not accepted the"
            " terms.",
            "Confira o número com o cliente por outro canal; não insista.",
            "Check the number with the customer through another channel; do not insist."),
    Refusal("131030", _FAIL, "O número não está na lista de destinatários de teste.",
            "The number is not on the list of test recipients.",
            "Acrescente o número à lista no painel do aplicativo, ou use um número de envio real.",
            "Add the number to the list in the app's dashboard, or use a real sending number."),
    Refusal("131043", _FAIL, "A mensagem venceu antes de chegar ao aparelho.",
            "The message expired before it reached the phone.",
            "O aparelho ficou desligado ou sem rede: reenvie se ainda fizer sentido.",
            "The phone was off or without network: send again if it still makes sense."),
    Refusal("131047", _FAIL, "Passaram mais de 24 horas desde a última mensagem da pessoa: texto livre não é aceito.",
            "More than 24 hours have passed since the person's last message: free text is not accepted.",
            "Escreva com uma mensagem aprovada.", "Write with an approved template."),
    Refusal("131052", _FAIL, "A mídia que a pessoa enviou não pôde ser baixada.",
            "The media the person sent could not be downloaded.",
            "Peça à pessoa que envie de novo.", "Ask the person to send it again."),
    Refusal("131062", _FAIL, "Esta mensagem não pode ser enviada a quem esconde o número de telefone.",
            "This message can't be sent to somebody who hides the phone number.",
            "Use o número de telefone da pessoa no arquivo.", "Use the person's phone number in the file."),
    Refusal("132005", _FAIL, "O texto ficou longo demais com os valores desta linha.",
            "The text became too long with this line's values.", *_VALUES),
    Refusal("137000", _FAIL, "A chave de identidade da pessoa mudou (troca de aparelho ou de dono do número).",
            "The person's identity key has changed (another phone or another owner of the number).",
            "Confirme com a pessoa que o número ainda é dela.",
            "Confirm with the person that the number is still theirs."),
    Refusal("131050", _SUPPRESS, "A pessoa pediu ao WhatsApp que parasse as mensagens de marketing desta empresa.",
            "The person asked WhatsApp to stop this business's marketing messages.",
            "Nada a fazer: ela entrou nos descadastros e não receberá outros disparos.",
            "Nothing to do: they are on the suppression list and will get no further broadcasts."),

    # ------------------------------------------------------------------ this recipient, or a mistake of ours in all
    Refusal("100", _SUSPECT, "A Meta recusou um parâmetro desta mensagem.",
            "Meta refused a parameter of this message.", *_VALUES),
    Refusal("130497", _SUSPECT, "A empresa não pode enviar mensagens a números deste país.",
            "The business may not send messages to numbers of this country.",
            "Tire do arquivo os números desse país, ou peça à Meta que libere o envio para ele.",
            "Take the numbers of that country out of the file, or ask Meta to allow sending there."),
    Refusal("131009", _SUSPECT, "Um valor desta mensagem não é válido para a Meta.",
            "A value of this message is not valid for Meta.", *_VALUES),
    Refusal("132007", _SUSPECT, "O conteúdo da mensagem viola a política do WhatsApp.",
            "The message's content breaks WhatsApp's policy.",
            "Reveja os valores desta linha e o texto da mensagem.",
            "Review this line's values and the template's text."),
    Refusal("132008", _SUSPECT, "Um valor desta linha não é aceito pela mensagem.",
            "A value of the message is not accepted by the template.", *_VALUES),
    Refusal("132012", _SUSPECT, "O formato de um valor não é o que a mensagem pede (por exemplo, uma quebra de linha).",
            "The format of a value is not the one the template asks for (a line break, for example).", *_VALUES),
)
# fmt: on

#: By code. The permission codes 200–299, alike in all but the number, are `PERMISSIONS`.
TABLE: Mapping[str, Refusal] = {row.code: row for row in _ROWS}
#: Meta gives each permission that is missing its own code in this range.
PERMISSIONS = range(200, 300)


def of_meta(code: str) -> Refusal | None:
    """The table's row for one of Meta's codes, None for a code that is not in it."""
    if code in TABLE:
        return TABLE[code]
    if len(code) == 3 and code.isascii() and code.isdigit() and int(code) in PERMISSIONS:
        return replace(TABLE["10"], code=code)
    return None


def explain(code: str) -> Refusal:
    """What any code of a row means: Meta's, ours or one that nobody knows."""
    return of_meta(code) or of_code(code) or Refusal.unknown(code)
