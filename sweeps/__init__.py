"""Runs many trials: reads the file, searches, schedules, keeps the record."""

import kdas  # noqa: F401  (first: it sees whether this Python can run any of it)
