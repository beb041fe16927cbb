"""ponas dataset: bring a data set into the form that the network uses, and look at one."""

from __future__ import annotations

import argparse
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ponas_node.cli import options
from ponas_node.cli.errors import USAGE, UserError
from ponas_node.cli.output import print_facts, print_json, print_rows

if TYPE_CHECKING:
    from consensus.datasets import Dataset

_ABOUT = """\
A data set is one file of integers: samples, labels, and a split into train, validation and test. Its id is the hash of
that file. `import` makes it, once, from NPZ, IDX, CSV, or a folder that has a folder of images for each class.
"""
_EXAMPLES = """\
  ponas dataset import table.csv --label-column species --out table.pnd
  ponas dataset import train-images-idx3-ubyte.gz --out digits.pnd
  ponas dataset import pixels.csv --label-column 1 --image 28x28x1 --out pixels.pnd
  ponas dataset import photos/ --out photos.pnd
  ponas dataset generate --difficulty 70 --seed 07 --train 8192 --out glyphs.pnd
  ponas dataset seal table.pnd --splits 5 --out public.pnd
  ponas dataset show table.pnd
  ponas dataset show mnist-5k
"""
_MOST_FILE = 1 << 30
_SHOWN_CLASSES = 30


def register(subparsers: options.Subparsers) -> None:
    """Add `dataset`."""
    parser = options.add_command(subparsers, "dataset", "make and inspect data sets", _ABOUT, _EXAMPLES)
    parts = parser.add_subparsers(dest="part", metavar="ACTION", required=True)
    _register_import(parts)
    _register_generate(parts)
    _register_seal(parts)
    show = options.add_command(parts, "show", "what a data set holds", "Show a data set.", _EXAMPLES)
    show.add_argument("source", metavar="FILE|NAME", help="a file that `import` made, or the name of a built-in one")
    options.add_json(show)
    show.set_defaults(run=_show)


def _register_import(parts: options.Subparsers) -> None:
    parser = options.add_command(parts, "import", "make a data set from a file or folder", _ABOUT, _EXAMPLES)
    add = parser.add_argument
    add("source", metavar="FILE", type=Path, help="NPZ, IDX (.gz too), CSV, or a folder with a folder for each class")
    add("--labels", metavar="FILE", type=Path, help="the labels of an IDX file (default: beside it, named as MNIST's)")
    add("--label-column", metavar="NAME|N", help="the label's column in a CSV file (default: the last one)")
    add("--image", metavar="HxWxC", help="a row of the table holds the pixels of an image of this size")
    add("--name", metavar="NAME", help="name of the data set (default: that of the file)")
    _add_out(parser)
    parser.set_defaults(run=_import)


def _register_generate(parts: options.Subparsers) -> None:
    text = "Draw images of glyphs from a seed, as many and as hard as you like: for benchmarks, or a task without data."
    parser = options.add_command(parts, "generate", "make a data set from a seed", text, _EXAMPLES)
    add = parser.add_argument
    add("--seed", default="", metavar="HEX", help="seed, up to 64 digits (default: empty)")
    add("--difficulty", type=int, default=65, metavar="0..100", help="how hard to read (default: %(default)s)")
    add("--classes", type=int, default=10, metavar="N", help="number of classes (default: %(default)s)")
    add("--train", type=int, default=8192, metavar="N", help="samples to train with (default: %(default)s)")
    add("--validation", type=int, default=1024, metavar="N", help="samples to choose by (default: %(default)s)")
    add("--test", type=int, default=2048, metavar="N", help="samples to be judged by (default: %(default)s)")
    _add_out(parser)
    parser.set_defaults(run=_generate)


def _register_seal(parts: options.Subparsers) -> None:
    text = (
        "Cut the test split into equal parts: one stays in the data set, the others are encrypted, each under a key of "
        "its own. The keys go into a file for you alone, OUT.keys.json; a task that names it is judged by a sealed "
        "split in each of its first competitions. docs/publishing-a-task.md explains it."
    )
    parser = options.add_command(parts, "seal", "seal parts of the test split", text, _EXAMPLES)
    parser.add_argument("source", metavar="FILE", type=Path, help="a data set that `import` made; keep it to yourself")
    parser.add_argument("--splits", metavar="N", type=int, required=True, help="how many sealed splits, 1 to 64")
    _add_out(parser)
    parser.set_defaults(run=_seal)


def _add_out(parser: argparse.ArgumentParser) -> None:
    options.add_out(parser)
    options.add_json(parser)


def _import(arguments: argparse.Namespace) -> int:
    from consensus.datasets import BadDataset, read_dataset

    source: Path = arguments.source.expanduser()
    name = arguments.name or re.sub(r"[^A-Za-z0-9._-]+", "-", source.name.split(".")[0])[:64].strip("-") or "dataset"
    out = options.out_path(arguments)
    try:
        done = read_dataset(
            source, name, arguments.labels, arguments.label_column, _image_size(arguments.image)
        )  # fmt: skip
    except BadDataset as error:
        raise UserError(f"{error} See docs/datasets.md.") from error
    return _write(done.dataset, out, arguments.json, done.classes)


def _generate(arguments: argparse.Namespace) -> int:
    from consensus.datasets import BadDataset, procedural

    out = options.out_path(arguments)
    counts = (arguments.train, arguments.validation, arguments.test)
    if sum(counts) * 258 > _MOST_FILE:
        raise UserError(f"That would be more than {_MOST_FILE >> 20} MiB: ask for fewer samples.", USAGE)
    try:
        seed = bytes.fromhex(arguments.seed)
        if len(seed) > 32:
            raise UserError("--seed has at most 64 hexadecimal digits.", USAGE)
        dataset = procedural(seed, *counts, difficulty=arguments.difficulty, classes=arguments.classes)
    except BadDataset as error:
        raise UserError(str(error), USAGE) from error
    except ValueError as error:
        raise UserError(f"--seed {arguments.seed!r} must be hexadecimal digits, two for each byte.", USAGE) from error
    return _write(dataset, out, arguments.json, ())


def _seal(arguments: argparse.Namespace) -> int:
    from chain.artifact import artifact_id
    from consensus.datasets import BadDataset, cut_test, seal_split
    from consensus.types import MOST_SPLITS
    from ponas_node.files import write_whole
    from ponas_node.split_keys import SplitKey, write_split_keys

    if not 1 <= arguments.splits <= MOST_SPLITS:
        raise UserError(f"--splits must be from 1 to {MOST_SPLITS}.", USAGE)
    source, out = arguments.source.expanduser(), options.out_path(arguments)
    names = [out.with_name(f"{out.stem}.{number}.sealed") for number in range(1, arguments.splits + 1)]
    keys = out.with_name(f"{out.stem}.keys.json")
    for path in (keys, *names):
        if path.exists():
            raise UserError(f"{path} exists already and was left as it is: choose another name with --out.")
    try:
        dataset, parts = cut_test(_read(source), arguments.splits)
    except BadDataset as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The data set {source} cannot be read: {error.strerror}.", USAGE) from error
    splits = []
    for path, part in zip(names, parts, strict=True):
        key = secrets.token_bytes(32)
        data = seal_split(part, key)
        write_whole(path, data)
        splits.append(SplitKey(artifact_id(data), path, key))
    write_split_keys(keys, splits)
    _write(dataset, out, arguments.json, ())
    if not arguments.json:
        print_facts({"sealed splits": f"{len(splits)} of {len(parts[0])} samples", "their keys, secret": keys})
    return 0


def _read(path: Path) -> Dataset:
    from consensus.datasets import decode_dataset

    if path.is_file() and path.stat().st_size > _MOST_FILE:
        raise UserError(f"{path} is larger than {_MOST_FILE >> 20} MiB.")
    data = path.read_bytes()
    return decode_dataset(data, len(data))


def _show(arguments: argparse.Namespace) -> int:
    from consensus.datasets import BUILTIN, BadDataset

    source = arguments.source
    try:
        dataset = BUILTIN[source]() if source in BUILTIN else _read(Path(source).expanduser())
        return _print(dataset, arguments.json, ())
    except BadDataset as error:
        raise UserError(f"{arguments.source} is no data set: {error} `ponas dataset import` makes one.") from error
    except FileNotFoundError as error:
        known = ", ".join(sorted(BUILTIN))
        raise UserError(f"There is no file {arguments.source}. Built-in data sets: {known}.", USAGE) from error


def _write(dataset: Dataset, out: Path, as_json: bool, classes: tuple[str, ...]) -> int:
    from consensus.datasets import encode_dataset

    with out.open("xb") as file:
        file.write(encode_dataset(dataset))
    _print(dataset, as_json, classes)
    if not as_json:
        print_facts({"written to": out})
    return 0


def _print(dataset: Dataset, as_json: bool, classes: tuple[str, ...]) -> int:
    from consensus.datasets import report

    found = report(dataset)
    if as_json:
        print_json({
            "name": found.name, "id": found.id.hex(), "bytes": found.size, "sample": list(found.sample),
            "kind": found.kind, "counts": {name: list(counts) for name, counts in found.counts.items()},
            "majority": found.majority, "shared": found.shared, "warnings": list(found.warnings),
            "classes": list(classes) or None,
        })  # fmt: skip
        return 0
    print_facts({
        "name": found.name,
        "id": found.id.hex(),
        "bytes": found.size,
        "samples": f"{' x '.join(map(str, found.sample))}, {found.kind}",
        "classes": dataset.shape.classes,
        **{name: f"{sum(counts)} samples" for name, counts in found.counts.items()},
        "always guessing": f"the most frequent class gives {found.majority / 100:.2f} % of the test",
    })  # fmt: skip
    named = classes or tuple(map(str, range(dataset.shape.classes)))
    rows = list(zip(range(len(named)), named, *found.counts.values(), strict=True))
    print_rows(("label", "class", *found.counts), rows[:_SHOWN_CLASSES])
    if len(rows) > _SHOWN_CLASSES:
        print(f"... and {len(rows) - _SHOWN_CLASSES} more classes; --json lists all")
    for warning in found.warnings:
        print(f"note: {warning}")
    return 0


def _image_size(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if match is None:
        raise UserError(f"--image {text!r} must be height x width x channels, such as 28x28x1.", USAGE)
    height, width, channels = (int(part) for part in match.groups())
    return height, width, channels
