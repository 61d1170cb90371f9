"""The reference bot's actions: its own, and the one line that brings Vamos' into any bot's action package."""

from actions.provider import *  # noqa: F403
from plugin.actions import *  # noqa: F403
