"""The `vamos` command."""
