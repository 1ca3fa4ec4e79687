"""Pictures that no file holds."""

import numpy as np


def pictures(n: int, h: int, w: int, c: int) -> np.ndarray:
    """Clouds whose power falls with frequency as that of natural images does, bytes."""
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w))[..., None]
    noise = np.fft.fft2(np.random.default_rng(0).normal(size=(n, h, w, c)), axes=(1, 2))
    x = np.fft.ifft2(noise / np.maximum(frequency, 1 / max(h, w)), axes=(1, 2)).real
    low, high = x.min((1, 2, 3), keepdims=True), x.max((1, 2, 3), keepdims=True)
    return np.round(255 * (x - low) / (high - low)).astype(np.uint8)
