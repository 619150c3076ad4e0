"""Makes ``keras_sample.keras``, whose scores Keras computed: ``python tests/keras_sample.py``.

It needs Keras 3 (made with 3.15.1 on JAX 0.10.2); the tests only read the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["SCORES", "images"]

SCORES = (
    (12.140210151672363, 24.220836639404297, -2.053056478500366, 24.746009826660156),
    (11.619088172912598, 24.831693649291992, -2.0730814933776855, 24.778587341308594),
)
"""What Keras answers to `images`."""


def images() -> np.ndarray:
    """Two images of 7 x 6 with 3 channels, as Keras has them."""
    return np.sin(np.arange(2 * 7 * 6 * 3, dtype=np.float32)).reshape(2, 7, 6, 3)


def make(path: Path) -> None:
    """Build the model, with random weights and statistics, and write it."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((7, 6, 3)),
            layers.Conv2D(4, (3, 2), padding="same", name="zeta"),
            layers.BatchNormalization(name="alpha"),
            layers.ReLU(),
            layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, activation="relu"),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    draw = np.random.default_rng(0)
    for variable in model.weights:
        low = 0.1 if "variance" in variable.path else -0.6
        variable.assign(draw.uniform(low, 0.8, variable.shape))
    model.save(path)
    print(model.predict(images(), verbose=0).tolist())


if __name__ == "__main__":
    make(Path(__file__).with_suffix(".keras"))
