"""Datasets: one content-addressed form of integers (`format`), those that come built in, and how others become one.

Source: protocol, section 2; docs/datasets.md.
"""

from __future__ import annotations

from consensus.datasets.builtin import BUILTIN, breast_cancer, digits, mnist_5k, wine
from consensus.datasets.convert import Imported, convert, read_dataset
from consensus.datasets.format import (
    HEADER,
    MAGIC,
    BadDataset,
    Dataset,
    Split,
    decode_dataset,
    encode_dataset,
    split_by_hash,
)
from consensus.datasets.procedural import procedural, procedural_split
from consensus.datasets.report import Report, report
from consensus.datasets.sealed import cut_test, seal_split, with_sealed_test

__all__ = [
    "BUILTIN",
    "HEADER",
    "MAGIC",
    "BadDataset",
    "Dataset",
    "Imported",
    "Report",
    "Split",
    "breast_cancer",
    "convert",
    "cut_test",
    "decode_dataset",
    "digits",
    "encode_dataset",
    "mnist_5k",
    "procedural",
    "procedural_split",
    "read_dataset",
    "report",
    "seal_split",
    "split_by_hash",
    "wine",
    "with_sealed_test",
]
