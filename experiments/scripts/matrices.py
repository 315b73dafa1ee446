"""Small symmetric matrices with a known largest eigenvector."""

import random


def gaussian_vector(size, seed):
    draw = random.Random(seed)
    return [draw.gauss(0.0, 1.0) for _ in range(size)]


def norm(vector):
    return sum(x * x for x in vector) ** 0.5


def spiked(size, gap, seed):
    """A matrix with eigenvalues 1 (once) and 1 - gap (for all others), and the eigenvector of the first."""
    top = gaussian_vector(size, seed)
    length = norm(top)
    top = [x / length for x in top]
    rest = 1.0 - gap
    matrix = [[gap * a * b + (rest if i == j else 0.0) for j, b in enumerate(top)] for i, a in enumerate(top)]
    return matrix, top
