"""Boards made from records alone; nothing here imports torch."""
