"""Power iteration: how its error falls with the gap between the two largest eigenvalues."""

import csv
import sys

from matrices import gaussian_vector, norm, spiked


def main(gap, seed, steps, path):
    matrix, top = spiked(size=24, gap=gap, seed=seed)
    vector = gaussian_vector(len(matrix), seed + 1)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "error"])
        for step in range(steps):
            length = norm(vector)
            vector = [x / length for x in vector]
            overlap = abs(sum(a * b for a, b in zip(vector, top)))
            rows.writerow([step, max(0.0, 1.0 - overlap * overlap) ** 0.5])
            vector = [sum(a * x for a, x in zip(row, vector)) for row in matrix]


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
