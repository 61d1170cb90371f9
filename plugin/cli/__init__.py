"""The `vamos` command.

It speaks English. An error that a use case raises is shown as the desk shows it to operators, mostly in Portuguese.
"""
