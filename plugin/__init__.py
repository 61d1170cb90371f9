"""Vamos: active outreach for Rasa bots."""

__version__ = "0.1.0"
