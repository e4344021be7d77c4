"""Chooses the parameters of methods on training rows that nothing was trained on: every method the same number of tries."""
