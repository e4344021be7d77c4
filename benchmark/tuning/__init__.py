"""Chooses the parameters of methods on training rows that no method is trained on, in equally many tries each."""
