"""Checks of the metrics against other packages and against golden values."""
