"""Sealed test splits: samples and labels that nobody can read before their key is shown.

The samples and labels of a split, as in the encoding of a data set, encrypted with ChaCha20-Poly1305 (RFC 8439). Each
split has a random key of its own, so the nonce is zero. The artifact's id fixes the bytes, the hash of the key the key:
there is one split that the two can open to. Source: protocol C13.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from consensus.datasets.format import BadDataset, Dataset, Split

KEY_BYTES = 32
_NONCE = bytes(12)


def seal_split(split: Split, key: bytes) -> bytes:
    """The encrypted bytes of a split, under a random 32-byte key that is used for no other."""
    plain = split.samples.tobytes() + split.labels.astype("<u2").tobytes()
    return ChaCha20Poly1305(key).encrypt(_NONCE, plain, None)


def with_sealed_test(dataset: Dataset, sealed: bytes, key: bytes) -> Dataset:
    """The data set with the test split that `key` opens, of as many samples as its own. Raises `BadDataset`."""
    own = dataset.test
    try:
        plain = ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
    except InvalidTag as error:
        raise BadDataset("The key does not open the sealed test split.") from error
    if len(plain) != own.samples.nbytes + 2 * len(own):
        raise BadDataset(f"The sealed test split does not hold {len(own)} samples of the data set's shape.")
    samples = np.frombuffer(plain, own.samples.dtype, own.samples.size).reshape(own.samples.shape)
    labels = np.frombuffer(plain, "<u2", len(own), own.samples.nbytes).astype(np.uint16, copy=False)
    return dataclasses.replace(dataset, test=Split(samples, labels))


def cut_test(dataset: Dataset, count: int) -> tuple[Dataset, list[Split]]:
    """Cut the test split into `count` + 1 equal parts: the data set with the first, and the others, to be sealed.

    Samples that are left over are in none of them. They are taken in turn, so that each part has a like mixture. Raises
    `BadDataset` where there are not enough.
    """
    size = len(dataset.test) // (count + 1)
    if count < 1 or not size:
        raise BadDataset(f"{len(dataset.test)} test samples cannot be cut into {count} sealed splits and a public one.")
    parts = [
        Split(
            np.ascontiguousarray(dataset.test.samples[start :: count + 1][:size]),
            dataset.test.labels[start :: count + 1][:size].copy(),
        )
        for start in range(count + 1)
    ]
    return dataclasses.replace(dataset, test=parts[0]), parts[1:]
