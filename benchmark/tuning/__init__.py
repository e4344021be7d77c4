"""Chooses the parameters of methods on training rows that nothing was trained on, in equally many tries each."""
