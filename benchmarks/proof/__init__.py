"""Proof by force of numbers: state machine, races, interleavings, a day of sending. Results go to docs/evidence.md.

Each module runs by itself, ``python -m benchmarks.proof.<name> --help``; small runs of each are in the fast lane.
"""
