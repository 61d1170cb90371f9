"""Adds Vamos' actions to any bot's training data: one line in the bot's `config.yml`.

::

    importers:
      - name: plugin.importer.VamosImporter

A single subclass of Rasa's own file importer, not a second importer beside it: with two importers Rasa switches its
auto-configuration off. Rasa only warns when an importer can't be imported and then trains without our actions;
`vamos doctor` looks into the trained model for them.
"""

from __future__ import annotations

from rasa.shared.core.domain import Domain
from rasa.shared.importers.rasa import RasaFileImporter
from rasa.shared.utils.common import cached_method

#: Registered by `from plugin.actions import *` in the bot's action package.
ACTIONS = ("action_redirect", "action_handoff")


class VamosImporter(RasaFileImporter):
    """Rasa's file importer plus our actions in the domain.

    No intent, slot or rule is added: the gate runs `action_redirect` by name (docs/decisions.md), so the bot's
    language understanding and policies are trained on exactly the builder's own data.
    """

    @cached_method
    def get_domain(self) -> Domain:
        """The builder's domain with our actions. Merged once: Rasa asks several times per training."""
        return super().get_domain().merge(Domain.from_dict({"actions": list(ACTIONS)}))
