"""`vamos crash-test`: real processes, killed at any instant, and the provider's ledger against our database.

The product's code is not touched for it: a process that is to die is the real one, with a store, a connector and a
socket that kill it (`doom`). A fork server (`forkserver`) starts it in milliseconds, the controller (`controller`)
follows a plan drawn by seed (`plan`), and the checker (`checker`) knows nothing of either: it compares what the
sandbox accepted with what the database says.
"""
