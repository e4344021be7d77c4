"""Explanation methods: one method or family a file, found by name.

No method imports another; what several share is in `amortised`, `continuous`, `rescale`, `vert_masks`, `vert_tuning`.
"""
