"""Metrics as recipes, whose parts can be replaced, and the catalogue of what is known to replace them."""
