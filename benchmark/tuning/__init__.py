"""Chooses the parameters of methods on training rows that no method was trained on, in equally many tries each."""
