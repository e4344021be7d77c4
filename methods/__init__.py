"""Explanation methods: one method or family a file, found by name; none imports another."""
