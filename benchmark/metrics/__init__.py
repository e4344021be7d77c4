"""Metrics beyond the ten of the paper, one file each."""
