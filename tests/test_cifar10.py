"""CIFAR-10: both published formats on small files that are written here, and what is refused."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

import onward as ow
from onward.data import cifar10, load_cifar10

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (4, 3072), np.uint8), np.array([3, 0, 9, 3], np.uint8)
BINARY = b"".join(bytes([label]) + image.tobytes() for label, image in zip(LABELS, IMAGES, strict=True))
BATCH = {b"batch_label": b"a batch", b"labels": [int(y) for y in LABELS], b"data": IMAGES, b"filenames": [b"x.png"]}


def pixel_by_pixel():
    """The same images written out: step t has red, green and blue of pixel t."""
    return np.array([[[image[c * 1024 + t] for c in range(3)] for t in range(1024)] for image in IMAGES])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_both_formats_hold_the_same_images(protocol):
    for images, labels in (cifar10.read_binary(BINARY), cifar10.read_pickle(pickle.dumps(BATCH, protocol))):
        np.testing.assert_array_equal(images, pixel_by_pixel())
        np.testing.assert_array_equal(labels, LABELS)


class Command:
    """What an attacker would put in a pickle."""

    def __reduce__(self):
        return eval, ("1 / 0",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({b"data": Command(), b"labels": [1]}), r"it asks for builtins\.eval"),
        (pickle.dumps([1, 2]), "not a batch of CIFAR-10"),
        (pickle.dumps(BATCH)[:-50], "not a batch of CIFAR-10"),
        (pickle.dumps(BATCH | {b"labels": [1]}), "are no batch"),
        (pickle.dumps(BATCH | {b"labels": [1, 2, 3, 10]}), "are no batch"),
        (b"", "not a batch of CIFAR-10"),
    ],
)
def test_foreign_pickles_are_refused_and_not_run(data, message):
    with pytest.raises(ValueError, match=message):
        cifar10.read_pickle(data)


def test_foreign_binaries_are_refused():
    for data, message in (
        (BINARY[:-1], "no multiple of 3073"),
        (b"", "no multiple"),
        (b"\x0a" + BINARY[1:], "no batch"),
    ):
        with pytest.raises(ValueError, match=message):
            cifar10.read_binary(data)


def archive(kind, end, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH):
            info = tarfile.TarInfo(f"{kind}/{name}{end}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("form", ["binary", "python", "unpacked"])
def test_the_loader_and_the_task_read_what_is_there(form, tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path))
    cifar10._load.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"put the published cifar-10-binary\.tar\.gz"):
        load_cifar10()
    folder = tmp_path / "cifar-10"
    folder.mkdir()
    if form == "unpacked":
        (folder / "cifar-10-batches-py").mkdir()
        monkeypatch.setattr(cifar10, "PICKLES", dict.fromkeys(cifar10.PICKLES, md5(pickle.dumps(BATCH, 2))))
        for name in cifar10.PICKLES:
            (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(BATCH, 2))
    else:
        kinds = {
            "binary": ("cifar-10-batches-bin", ".bin", BINARY),
            "python": ("cifar-10-batches-py", "", pickle.dumps(BATCH)),
        }
        content = archive(*kinds[form])
        name = f"cifar-10-{form}.tar.gz"
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match="is corrupt or another file"):
            load_cifar10()
        monkeypatch.setattr(cifar10, "ARCHIVES", {name: md5(content)})
    data = load_cifar10()
    assert data.train_images.shape == (20, 1024, 3)
    np.testing.assert_array_equal(data.test_images, pixel_by_pixel())
    task = ow.tasks.make("scifar10", validation=4)
    sample = next(task.evaluation("test", 4))
    np.testing.assert_allclose(sample.input, pixel_by_pixel() / 255, rtol=1e-6)
    assert sample.target.shape == (4, 1024)
    assert task.train_batch(0, 0, 2).input.shape == (2, 1024, 3)
    cifar10._load.cache_clear()


def md5(data):
    return hashlib.md5(data).hexdigest()
