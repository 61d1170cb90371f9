"""Connectors: one package per messaging channel. See `plugin.connector` for the contract."""
