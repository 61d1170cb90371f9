"""The dispatcher: one per database by lease, in Rasa's process (`EmbeddedDispatcher`) or its own (`vamos worker`)."""

from plugin.dispatch.embedded import EmbeddedDispatcher
from plugin.dispatch.loop import Dispatcher, run_worker

__all__ = ["Dispatcher", "EmbeddedDispatcher", "run_worker"]
