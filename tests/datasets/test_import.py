"""What users bring: NPZ, IDX, CSV and folders of images; and what is refused, with a sentence that says why."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.datasets import BadDataset, convert, encode_dataset, read_dataset
from consensus.datasets.convert import Raw

NOISE = np.random.default_rng(1)
IMAGES = NOISE.integers(0, 256, (60, 6, 5), dtype=np.uint8)
LABELS = np.arange(60) % 3


def refused(path, match, **options):
    with pytest.raises(BadDataset, match=match) as caught:
        read_dataset(path, "x", **options)
    assert str(caught.value).endswith((".", "?")) and "\n" not in str(caught.value)


def npz(path, compress=False, **arrays):
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


# ---- NPZ


@pytest.mark.parametrize("compress", [False, True])
def test_npz_of_images_and_of_a_table(tmp_path, compress):
    done = read_dataset(npz(tmp_path / "a.npz", compress, x=IMAGES, y=LABELS), "mine")
    shape = done.dataset.shape
    assert (shape.height, shape.width, shape.channels, shape.classes) == (6, 5, 1, 3)
    assert sum(len(split) for split in done.dataset.splits) == 60
    kept = {sample.tobytes() for split in done.dataset.splits for sample in split.samples}
    assert kept == {image.tobytes() for image in IMAGES}
    table = NOISE.normal(size=(60, 7))
    done = read_dataset(npz(tmp_path / "b.npz", samples=table, labels=LABELS.astype(float) * 10), "table")
    assert done.classes == ("0", "10", "20") and done.dataset.shape.channels == 7
    assert done.dataset.train.samples.dtype == np.int8


def test_npz_with_splits_is_quantised_by_its_training_samples(tmp_path):
    def parts(test_shift):
        table = np.arange(40.0).reshape(20, 2)
        return {"x_train": table, "y_train": np.arange(20) % 2, "x_validation": table[:4], "y_validation": [0, 1, 0, 1],
                "x_test": table[:6] + test_shift, "y_test": [0, 1] * 3}  # fmt: skip

    one = read_dataset(npz(tmp_path / "a.npz", **parts(0)), "x").dataset
    two = read_dataset(npz(tmp_path / "b.npz", **parts(1000)), "x").dataset
    assert [len(split) for split in one.splits] == [20, 4, 6]
    assert np.array_equal(one.train.samples, two.train.samples)
    assert (two.test.samples == 127).all() and np.array_equal(one.test.samples, one.train.samples[:6])


def test_floats_that_are_pixels_become_pixels_and_others_are_refused(tmp_path):
    done = read_dataset(npz(tmp_path / "a.npz", x=IMAGES.astype(np.float32), y=LABELS), "x")
    assert done.dataset.train.samples.dtype == np.uint8
    refused(npz(tmp_path / "b.npz", x=IMAGES / 255, y=LABELS), "whole numbers")
    refused(npz(tmp_path / "c.npz", x=np.full((60, 2, 2), np.nan), y=LABELS), "whole numbers")


def test_bad_npz(tmp_path):
    refused(npz(tmp_path / "a.npz", x=IMAGES), "needs arrays x and y")
    refused(npz(tmp_path / "b.npz", x=IMAGES, y=LABELS[:5]), "60 samples, but labels")
    refused(npz(tmp_path / "c.npz", x=np.array([[1, np.nan]] * 60), y=LABELS), "finite")
    refused(npz(tmp_path / "d.npz", x=IMAGES, y=LABELS - 1), "out of range")
    refused(npz(tmp_path / "e.npz", x=IMAGES, y=LABELS + 65536), "out of range")
    refused(npz(tmp_path / "f.npz", x=IMAGES, y=LABELS * 0), "two classes")
    refused(npz(tmp_path / "g.npz", x=IMAGES, y=LABELS + 0.5), "whole number")
    refused(npz(tmp_path / "h.npz", x=IMAGES[:0], y=LABELS[:0]), "no samples")
    refused(npz(tmp_path / "i.npz", x=NOISE.normal(size=(1500, 2)), y=np.arange(1500)), "label column")
    refused(npz(tmp_path / "j.npz", x=np.zeros((60, 2000)), y=LABELS), "columns")
    refused(npz(tmp_path / "k.npz", x=np.array(["a"] * 60), y=LABELS), "no samples")
    refused(npz(tmp_path / "l.npz", x=IMAGES.astype(complex), y=LABELS), "only numbers")
    refused(npz(tmp_path / "m.npz", x=IMAGES, y=LABELS), "at most", max_bytes=100)
    (tmp_path / "n.npz").write_bytes(b"PK\3\4 no archive")
    refused(tmp_path / "n.npz", "not a readable NPZ")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path):
    path = npz(tmp_path / "a.npz", x=np.array([Bomb()] * 60, dtype=object), y=LABELS)
    refused(path, "only numbers")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Bomb()))
        archive.writestr("y.npy", pickle.dumps(Bomb()))
    refused(tmp_path / "b.npz", "cannot be read")


def header(shape) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_headers_that_promise_much_take_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header((1 << 40, 28, 28)) + b"x")
        archive.writestr("y.npy", header((1 << 40,)) + b"x")
    refused(tmp_path / "a.npz", "at most")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", header((1 << 20, 28, 28)) + b"x")
        archive.writestr("y.npy", header((1 << 20,)) + b"x")
    refused(tmp_path / "b.npz", "ends early")
    idx = tmp_path / "images-idx3"
    idx.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 0xFFFFFFFF, 0xFFFFFFFF, 28))
    (tmp_path / "labels-idx1").write_bytes(b"")
    refused(idx, "at most")


def test_an_archive_that_unpacks_to_much_is_cut_off(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header((60, 1000, 1000)) + bytes(60_000_000))
        archive.writestr("y.npy", header((60,)) + bytes(60))
    refused(tmp_path / "a.npz", "at most", max_bytes=1 << 20)


# ---- IDX


def idx(values) -> bytes:
    kind = {"|u1": 8, ">i4": 12, ">f8": 14}[values.dtype.str]
    return struct.pack(">BBBB", 0, 0, kind, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + (
        values.tobytes()
    )  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_idx_and_its_labels(tmp_path, packed):
    suffix, pack = (".gz", gzip.compress) if packed else ("", bytes)
    images, labels = tmp_path / f"my-images-idx3-ubyte{suffix}", tmp_path / f"my-labels-idx1-ubyte{suffix}"
    images.write_bytes(pack(idx(IMAGES)))
    refused(images, "no labels")
    labels.write_bytes(pack(idx(LABELS.astype(np.uint8))))
    one = read_dataset(images, "x")
    assert encode_dataset(one.dataset) == encode_dataset(convert(Raw(IMAGES, LABELS), "x").dataset)
    other = tmp_path / f"l{suffix}"
    other.write_bytes(pack(idx(LABELS.astype(">i4"))))
    assert encode_dataset(read_dataset(images, "x", labels=other).dataset) == encode_dataset(one.dataset)


def test_bad_idx(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.write_bytes(idx(LABELS.astype(np.uint8)))
    whole = idx(IMAGES)
    for data, match in ((whole[:-1], "ends early"), (whole + b"x", "longer"), (b"\0\0\7\3" + whole[4:], "known kind"),
                        (whole[:6], "ends early"), (b"", "known kind")):  # fmt: skip
        images.write_bytes(data)
        refused(images, match)
    images.with_suffix(".gz").write_bytes(gzip.compress(whole)[:-20])
    refused(images.with_suffix(".gz"), "unpacked|known kind", labels=labels)
    images.write_bytes(whole)
    labels.write_bytes(b"nothing")
    refused(images, "not an IDX")


# ---- CSV


def csv(path, text):
    path.write_text(text)
    return path


def rows(count=40):
    return [f"{index / 7},{-index},{'cat' if index % 2 else 'dog'}" for index in range(count)]


def test_csv_with_and_without_a_heading(tmp_path):
    plain = read_dataset(csv(tmp_path / "a.csv", "\n".join(rows())), "x")
    assert plain.classes == ("cat", "dog") and plain.dataset.shape.channels == 2
    headed = read_dataset(csv(tmp_path / "b.csv", "\ufeffone,two,kind\r\n" + "\r\n".join(rows()) + "\r\n\r\n"), "x")
    assert encode_dataset(headed.dataset) == encode_dataset(plain.dataset)
    named = read_dataset(tmp_path / "b.csv", "x", label_column="kind")
    counted = read_dataset(tmp_path / "b.csv", "x", label_column="3")
    assert encode_dataset(named.dataset) == encode_dataset(counted.dataset) == encode_dataset(plain.dataset)
    semicolons = csv(tmp_path / "c.csv", "\n".join(rows()).replace(",", ";"))
    assert encode_dataset(read_dataset(semicolons, "x").dataset) == encode_dataset(plain.dataset)
    first = [",".join([row.split(",")[2], *row.split(",")[:2]]) for row in rows()]
    moved = read_dataset(csv(tmp_path / "d.csv", "\n".join(first)), "x", label_column="1")
    assert encode_dataset(moved.dataset) == encode_dataset(plain.dataset)


def test_csv_labels_that_are_numbers_are_in_their_order(tmp_path):
    text = "\n".join(f"{index},{index % 11}" for index in range(110))
    assert read_dataset(csv(tmp_path / "a.csv", text), "x").classes == tuple(str(label) for label in range(11))


def test_csv_of_pixels(tmp_path):
    text = "\n".join(
        f"{label}," + ",".join(map(str, image.ravel())) for image, label in zip(IMAGES, LABELS, strict=True)
    )
    path = csv(tmp_path / "a.csv", text)
    done = read_dataset(path, "x", label_column="1", image=(6, 5, 1))
    assert encode_dataset(done.dataset) == encode_dataset(convert(Raw(IMAGES, LABELS), "x").dataset)
    refused(path, "30 values, not 6 x 6 x 1", label_column="1", image=(6, 6, 1))
    bad = csv(tmp_path / "b.csv", text.replace(f"\n1,{IMAGES[1, 0, 0]},", "\n1,256,"))
    refused(bad, "whole numbers", label_column="1", image=(6, 5, 1))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"), ("\n\n", "empty"), ("1\n2\n", "columns"), ("a,b\n", "no rows"),
        ("1,2,a\n1,2,b\n1,b\n", "Line 3 has 2 columns"), ("1,2,a\n1,x,b\n", "Line 2, column 2"),
        ("1,2,a\n1,nan,b\n", "finite"), ("1,2,a\n1,inf,b\n", "finite"), ("1,2,a\n1,,b\n", "not a number"),
        ("1,2,a\n1,2,\n", "no label"), ("1,2,a\n3,4,a\n", "two classes"), ("1,\0,a\n", "not text"),
        (f"1,{'9' * 2000},a\n", "cannot be read|Line"), ("1,2,a\n3,4,b\n", "at least one sample"),
        ("\n".join(f"1,{index}x" for index in range(1200)), "classes"),
    ],
)  # fmt: skip
def test_bad_csv(tmp_path, text, match):
    refused(csv(tmp_path / "a.csv", text), match)


def test_more_bad_csv(tmp_path):
    path = csv(tmp_path / "a.csv", "\n".join(rows()))
    refused(path, "no column 'none'", label_column="none")
    refused(path, "no column '4'", label_column="4")
    refused(path, "at most", max_bytes=10)
    (tmp_path / "b.csv").write_bytes(b"1,2,\xff\n")
    refused(tmp_path / "b.csv", "UTF-8")
    (tmp_path / "c.xls").write_bytes(b"1,2,\xff\n")
    refused(tmp_path / "c.xls", "known kind")


@settings(deadline=None, max_examples=60, print_blob=True)
@given(st.text(alphabet="0123456789.,;-e\n\"'anif \t", max_size=200))
def test_any_text_is_a_table_or_refused(tmp_path_factory, text):
    path = csv(tmp_path_factory.mktemp("csv") / "a.csv", text)
    try:
        read_dataset(path, "x")
    except BadDataset as error:
        assert str(error).endswith((".", "?"))


# ---- folders


@pytest.fixture
def photos(tmp_path):
    Image = pytest.importorskip("PIL.Image")

    def build(mode="L", suffix="png", size=(5, 6), sub="photos"):
        for index, (pixels, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            folder = tmp_path / sub / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize(size).convert(mode).save(folder / f"{index:03}.{suffix}")
        return tmp_path / sub

    return build


def test_a_folder_of_grey_images(photos):
    done = read_dataset(photos(), "x")
    assert done.classes == ("class 0", "class 1", "class 2")
    order = np.argsort(LABELS, kind="stable")  # folder after folder
    assert encode_dataset(done.dataset) == encode_dataset(convert(Raw(IMAGES[order], LABELS[order]), "x").dataset)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "bmp"), ("RGBA", "png"), ("P", "png"), ("RGB", "jpg")])
def test_a_folder_of_colours(photos, mode, suffix):
    dataset = read_dataset(photos(mode, suffix), "x").dataset
    assert dataset.shape.channels == 3 and dataset.train.samples.dtype == np.uint8


def test_bad_folders(photos, tmp_path):
    good = photos()
    for name, data, match in (("zz.png", b"no image", "cannot be read"), ("zz.png", None, "broken")):
        whole = next((good / "class 0").glob("*.png")).read_bytes()
        (good / "class 2" / name).write_bytes(whole[:-30] if data is None else data)
        refused(good, match)
    (good / "class 2" / "zz.png").unlink()
    photos(size=(7, 7), sub="other")
    (tmp_path / "other" / "class 0" / "000.png").rename(good / "class 0" / "zz.png")
    refused(good, "one size")
    (good / "class 0" / "zz.png").unlink()
    refused(good, "more than", max_bytes=100)
    (good / "empty").mkdir()
    refused(good, "no images")
    (tmp_path / "alone" / "class").mkdir(parents=True)
    refused(tmp_path / "alone", "folder per class")
