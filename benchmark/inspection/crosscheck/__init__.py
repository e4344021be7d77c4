"""Checks of our own metrics: against other people's code, and against our own past."""
