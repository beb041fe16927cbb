"""Images from a folder that has a folder for each class. Pillow reads them; it is asked for only here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from consensus.datasets.convert import Raw
from consensus.datasets.format import MAX_CLASSES, MAX_SIDE, BadDataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "PPM")
GREY_MODES = ("1", "L", "LA", "I;16")


def read_folder(path: Path, max_bytes: int) -> Raw:
    """`path`/class/image: all of one size; grey if all are, else red, green, blue. Raises `BadDataset`, `OSError`.

    JPEG decoders may differ by a bit: the data set is what this conversion gives, not what the files hold.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise BadDataset("A folder of images is read with Pillow: pip install 'ponas-node[data]'.") from error
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not 2 <= len(folders) <= MAX_CLASSES:
        raise BadDataset(f"{path.name} has {len(folders)} folders; a folder per class is needed, 2 to {MAX_CLASSES}.")
    files = [(folder.name, file) for folder in folders for file in _images(folder)]
    width, height, grey = _survey(Image, files, max_bytes)
    samples = np.empty((len(files), height, width, 1 if grey else 3), dtype=np.uint8)
    for index, (_, file) in enumerate(files):
        with _opened(Image, file) as image:
            try:
                pixels = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.uint8)
            except (OSError, SyntaxError, ValueError) as error:
                raise BadDataset(f"The image {_name(file)} is broken: {str(error)[:80]}.") from error
        samples[index] = pixels.reshape(height, width, -1)
    return Raw(samples, np.array([name for name, _ in files]))


def _images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise BadDataset(f"The folder {folder.name[:64]} has no images ({', '.join(SUFFIXES)}).")
    return found


def _survey(image_module: Any, files: list[tuple[str, Path]], max_bytes: int) -> tuple[int, int, bool]:
    """Width and height of all images, and whether all are grey; from their headers, before memory is taken."""
    size: tuple[int, int] | None = None
    grey = True
    for _, file in files:
        with _opened(image_module, file) as image:
            if size is None:
                size = image.size
            if image.size != size:
                raise BadDataset(
                    f"The image {_name(file)} is {image.size[0]} x {image.size[1]}, the first one "
                    f"{size[0]} x {size[1]}: bring all to one size first."
                )
            if max(size) > MAX_SIDE or len(files) * size[0] * size[1] * 3 > 3 * max_bytes:
                raise BadDataset(f"{len(files)} images of {size[0]} x {size[1]} are more than {max_bytes} bytes.")
            if image.mode == "I;16":
                raise BadDataset(f"The image {_name(file)} has 16 bits a pixel: bring it to 8 first.")
            grey = grey and image.mode in GREY_MODES
    if size is None:
        raise BadDataset("There are no images.")
    return size[0], size[1], grey


def _opened(image_module: Any, file: Path) -> Any:
    try:
        return image_module.open(file, formats=FORMATS)
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        raise BadDataset(f"The image {_name(file)} cannot be read as PNG, JPEG, BMP or PNM.") from error


def _name(file: Path) -> str:
    return f"{file.parent.name[:64]}/{file.name[:64]}"
