"""Boards made from records alone; nothing here needs torch."""
