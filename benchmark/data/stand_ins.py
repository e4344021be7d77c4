"""Synthetic texts and images with planted evidence: words of a class, regions of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SEED = 0
NOUNS = "table window letter garden station bottle picture corner street engine blanket ladder village basket".split()
VERBS = "holds shows follows carries finds leaves joins meets covers turns".split()
ADJECTIVES = "green small round plain early quiet wooden second narrow common".split()
LINKS = "and while because then where but".split()


def sentences(
    rng: np.random.Generator, evidence: Mapping[str, Sequence[str]], rows: int, longest: int
) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """Return texts as words, labels (N,), and where each text's evidence stands (N, longest) bool.

    A grammar of neutral clauses, "the <adjective> <noun> <verb> the <noun>", holds two to four evidence words of the
    text's own class and, in half of the texts, one of another class as a distractor: the class is that of the majority.
    Only the own class's words are evidence.
    """
    classes = list(evidence)
    texts, labels = [], rng.integers(0, len(classes), rows)
    planted = np.zeros((rows, longest), bool)
    for row, label in enumerate(labels):
        words: list[str] = []
        target = int(rng.integers(longest // 3, longest - 8))
        while len(words) < target:
            if words:
                words.append(str(rng.choice(LINKS)))
            words += ["the", rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(VERBS), "the", rng.choice(NOUNS)]
        words = words[: longest - 6]
        marks = [False] * len(words)
        signs = rng.choice(evidence[classes[label]], int(rng.integers(2, 5)))
        others = [c for c in range(len(classes)) if c != label]
        distractors = rng.choice(evidence[classes[rng.choice(others)]], int(rng.random() < 0.5))
        for word, mark in [(w, True) for w in signs] + [(w, False) for w in distractors]:
            at = int(rng.integers(0, len(words) + 1))
            words.insert(at, str(word))
            marks.insert(at, mark)
        texts.append([str(word) for word in words])
        planted[row, : len(marks)] = marks
    return texts, labels, planted


def images(
    rng: np.random.Generator, classes: int, rows: int, side: int, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (N, channels, side, side) uint8, labels (N,), and their evidence regions (N, side * side) bool.

    On a noisy background of slow waves lies a patch, a quarter of the side wide, whose stripes have the direction that
    belongs to the class: this is the evidence. A distractor, a patch of the same size and contrast that holds a
    checkerboard in every class, never overlaps it.
    """
    patch = side // 4
    labels = rng.integers(0, classes, rows)
    yy, xx = np.mgrid[0:side, 0:side]
    py, px = np.mgrid[0:patch, 0:patch]
    pixels = np.empty((rows, channels, side, side), np.uint8)
    planted = np.zeros((rows, side, side), bool)
    board = np.where((py // 2 + px // 2) % 2 == 0, 1.0, -1.0)
    for row, label in enumerate(labels):
        turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        waves = 12 * np.sin(2 * np.pi * (xx * np.cos(turn) + yy * np.sin(turn)) / side + phase)
        image = 128 + waves + rng.normal(0, 8, (channels, side, side))
        angle = np.pi * label / classes
        stripes = np.sin(2 * np.pi * (px * np.cos(angle) + py * np.sin(angle)) / 4 + rng.uniform(0, 2 * np.pi))
        top, left = rng.integers(0, side - patch + 1, 2)
        while True:
            other_top, other_left = rng.integers(0, side - patch + 1, 2)
            if abs(other_top - top) >= patch or abs(other_left - left) >= patch:
                break
        image[:, top : top + patch, left : left + patch] += 70 * stripes
        image[:, other_top : other_top + patch, other_left : other_left + patch] += 50 * board
        planted[row, top : top + patch, left : left + patch] = True
        pixels[row] = image.clip(0, 255).round()
    return pixels, labels, planted.reshape(rows, -1)
