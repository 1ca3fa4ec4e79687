"""How little a row of one set looks like those of another: cheap features, and a classifier that never saw the row."""

from __future__ import annotations

import hashlib

import numpy as np

FOLDS = 5
SMALL = 32  # pixels of a side to which larger images are brought for principal components
COMPONENTS = 48
BLOCK = 256  # images whose features are computed at once


def digests(rows: np.ndarray) -> list[bytes]:
    """What each row holds, in 16 bytes: [n, ...] -> n."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(rows)]


def features(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """[n, d] of images uint8 [n, h, w, c]: how often each level is there, how neighbours differ, the radial spectrum,
    and principal components with what they leave."""
    from sklearn.decomposition import PCA

    from simulator.probes.detection import radial

    spectrum = np.asarray(radial({"image": images}))  # [n, rings]
    blocks = np.array_split(images, -(-len(images) // BLOCK))
    local = np.concatenate([np.concatenate([_levels(x), _differences(x)], 1) for x in blocks])  # [n, .]
    small = np.concatenate([_small(x) for x in blocks])  # [n, pixels]
    pca = PCA(min(COMPONENTS, *(side - 1 for side in small.shape)), svd_solver="randomized", random_state=seed)
    inside = pca.fit_transform(small)  # [n, components]
    left = np.square(small - pca.inverse_transform(inside)).mean(1, keepdims=True)  # [n, 1]
    return np.concatenate([local, spectrum, inside, np.log(left + 1e-9)], 1).astype(np.float32)


def scores(real: np.ndarray, given: np.ndarray, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Log-odds that rows are of the set and not real, by fold, of gradient-boosted trees fitted to the other folds.

    Rows are images uint8 [n, h, w, c] or numbers [n, d].  Rows that are the same lie in one fold, so that no copy
    gives one away.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.concatenate([real, given])
    x = features(rows, seed) if rows.ndim == 4 else rows
    y = np.repeat([0, 1], [len(real), len(given)])
    chance = np.random.default_rng(seed)
    fold = np.concatenate([_folds(some, chance) for some in (real, given)])  # [n]
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for k in range(FOLDS):
        model = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.1, max_leaf_nodes=8, l2_regularization=1.0, random_state=seed,
            early_stopping=False,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        model.fit(x[fold != k], y[fold != k])
        for kind, of in enumerate(found):
            of.append(model.decision_function(x[(fold == k) & (y == kind)]))
    return found


def _folds(rows: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """A fold for each row, by chance and as even as copies allow."""
    _, same = np.unique(digests(rows), return_inverse=True)  # [n]: rows that hold the same have one number
    return chance.permutation(same.max() + 1)[same] % FOLDS


def _levels(x: np.ndarray) -> np.ndarray:
    """Shares of pixels at 0, at 255 and in each sixteenth of the levels, [n, 18]."""
    tests = (x == 0, x == 255, *(x // 16 == i for i in range(16)))
    return np.stack([test.mean((1, 2, 3)) for test in tests], 1)


def _differences(x: np.ndarray) -> np.ndarray:
    """Of neighbours across, down and all around: size, spread, tails, and how often they are alike, [n, 15]."""
    y = x.astype(np.float32) / 255  # [n, h, w, c]
    around = y[:, 1:-1, :-2] + y[:, 1:-1, 2:] + y[:, :-2, 1:-1] + y[:, 2:, 1:-1] - 4 * y[:, 1:-1, 1:-1]
    found = []
    for d in (np.diff(y, axis=2), np.diff(y, axis=1), around):
        size, square = np.abs(d), np.square(d)
        power = square.mean((1, 2, 3)) + 1e-9  # [n]
        tails = np.square(square).mean((1, 2, 3)) / power**2
        found += [size.mean((1, 2, 3)), np.log(power), np.log(tails + 1e-9)]
        found += [(size <= most / 255).mean((1, 2, 3)) for most in (0.5, 2.5)]
    return np.stack(found, 1)


def _small(x: np.ndarray) -> np.ndarray:
    """Means of squares of pixels, in [0, 1], so many that a side has about `SMALL`, [n, pixels]."""
    n, h, w, c = x.shape
    k = max(1, min(h, w) // SMALL)
    cut = x[:, : h // k * k, : w // k * k].astype(np.float32) / 255
    return cut.reshape(n, h // k, k, w // k, k, c).mean((2, 4)).reshape(n, -1)
