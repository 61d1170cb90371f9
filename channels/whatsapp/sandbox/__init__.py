"""A local WhatsApp Cloud API with phones: the stand-in for Meta while developing, demonstrating and testing.

It speaks the Graph paths that the connector uses, refuses with Meta's codes, and sends signed webhooks. What it plays
after Meta's documentation is marked where it is done. What it plays for the tester:

======================  =================================================================================
number                  behaviour
======================  =================================================================================
Brazilian mobile whose  the account lacks the ninth digit: `wa_id` and `from` have 12 digits although 13
DDD is above 28 and     were dialled (at Meta both forms exist in every DDD; this rule only makes it
last digit is even      predictable)
ends in 0026            accepted, then `failed` with 131026 (no WhatsApp)
ends in 0126            refused at once with 131026
ends in 0049            accepted, then `failed` with 131049 (marketing cap of the person)
ends in 0033            taps come without `context` (seen in production, pywa#216)
ends in 0077            hides the phone: webhooks carry only the business-scoped user id
ends in 0088            has read receipts off: never `read`
======================  =================================================================================

``PUT /sandbox/config`` with ``{"failures": [{"kind": "131026"}]}`` refuses with any of Meta's codes, ``async_131026``
accepts and lets the message fail with it afterwards; see `channels.whatsapp.sandbox.config.Failure`.
"""
