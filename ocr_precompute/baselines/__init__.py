"""Speed kept in a file, and compared with: whether something has become slower."""

DEFAULT_REGRESSION = 0.1
"""Share of the speed that may be lost before something counts as slower."""

LEAST_ROUNDS = 5
"""Measurements below which an interval would say little."""
