"""The embedded MNIST98 against its source, and the loaders against files that are wrong, absent or unreachable."""

import gzip
import hashlib
import struct
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from onward.data import data_home, files, load_fashion_mnist, load_mnist, load_mnist98, mnist, mnist98, read_idx

COUNTS = [
    [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
]


def idx_bytes(array):
    """The IDX form of a uint8 array, written here independently of the reader."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Four small IDX files in place of MNIST's, a folder for them, and no network."""
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, shape, np.uint8) for shape in ((5, 28, 28), (5,), (3, 28, 28), (3,))]
    content = {name: idx_bytes(array) for name, array in zip(mnist.FILES, arrays, strict=True)}
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.md5(data).hexdigest() for name, data in content.items()})
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    mnist._load.cache_clear()
    (tmp_path / "mnist").mkdir()
    yield tmp_path / "mnist", content, arrays
    mnist._load.cache_clear()


def unreachable(*_, **__):
    raise urllib.error.URLError("no network in this test")


def put(folder, content):
    for name, data in content.items():
        (folder / name).write_bytes(data)


def check(loaded, arrays):
    found = (loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels)
    for have, want in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(have, want.reshape(have.shape))
        assert have.dtype == np.uint8
    assert loaded.train_images.shape == (5, 784)


# The embedded set


def test_embedded_set_is_the_mean_of_eight_canonical_pixels():
    folder = data_home() / "mnist"
    names = list(mnist.FILES)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        pytest.skip(f"the canonical MNIST files are not on this machine ({', '.join(missing)} not in {folder})")
    raw = [(folder / name).read_bytes() for name in names]
    for name, data in zip(names, raw, strict=True):
        assert hashlib.md5(data).hexdigest() == mnist.FILES[name]
    embedded = load_mnist98()
    for images, labels, pixels, digits in (
        (embedded.train_images, embedded.train_labels, raw[0][16:], raw[1][8:]),
        (embedded.test_images, embedded.test_labels, raw[2][16:], raw[3][8:]),
    ):
        means = np.add.reduceat(np.frombuffer(pixels, np.uint8), np.arange(0, len(pixels), 8), dtype=np.int64) / 8
        np.testing.assert_array_equal(images, np.round(means).reshape(-1, 98))
        np.testing.assert_array_equal(labels, np.frombuffer(digits, np.uint8))


def test_embedded_set_is_known_small_quick_and_read_only():
    mnist98._load.cache_clear()
    start = time.perf_counter()
    data = load_mnist98()
    assert time.perf_counter() - start < 3  # about 0.3 s on an idle machine
    assert load_mnist98() is data
    assert data.train_images.shape == (60_000, 98)
    assert data.test_images.shape == (10_000, 98)
    assert [np.bincount(data.train_labels).tolist(), np.bincount(data.test_labels).tolist()] == COUNTS
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=2e-4)
    with pytest.raises(ValueError, match=r"read-only"):
        data.train_images[0, 0] = 1


def test_embedded_file_is_small_and_its_licence_is_beside_it():
    folder = Path(mnist98.__file__).parent
    assert (folder / mnist98.FILE).stat().st_size < 2_700_000
    text = (folder / "MNIST98-LICENSE.md").read_text()
    for words in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "https://creativecommons.org/licenses/by-sa/3.0/"):
        assert words in text


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d[:1000] + bytes([d[1000] ^ 1]) + d[1001:], lambda d: b""]
)
def test_a_changed_embedded_file_is_refused(change):
    data = (Path(mnist98.__file__).parent / mnist98.FILE).read_bytes()
    assert mnist98.verified(data) is data
    with pytest.raises(ValueError, match=r"SHA-256.*reinstall onward"):
        mnist98.verified(change(data))


def test_encoding_is_undone_by_decoding_and_pays():
    data = load_mnist98()
    images, labels = data.test_images[:3000], data.test_labels[:3000]
    code = mnist98.encode(images, labels)
    for have, want in zip(mnist98.decode(code), (images, labels), strict=True):
        np.testing.assert_array_equal(have, want)
    assert len(code) < 0.45 * images.size
    extreme = np.full((4, 98), 255, np.uint8)  # the largest contexts there are
    np.testing.assert_array_equal(mnist98.decode(mnist98.encode(extreme, np.full(4, 9, np.uint8)))[0], extreme)


def test_average_rounds_to_the_nearest():
    pixels = np.zeros((1, 784), np.uint8)
    pixels[0, :8], pixels[0, 8:16], pixels[0, 16:24], pixels[0, 24] = 255, [1, 2, 3, 4, 5, 6, 7, 9], [0] * 7 + [5], 3
    assert mnist98.average(pixels)[0, :5].tolist() == [255, 5, 1, 0, 0]  # 255, 4.625, 0.625, 0.375, 0


# The IDX format


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_every_element_type_of_idx_is_read(code, dtype):
    array = np.asarray([[1, 2, 3], [4, 5, 100]], dtype)
    data = bytes([0, 0, code, 2]) + struct.pack(">II", 2, 3) + array.astype(f">{dtype}").tobytes()
    have = read_idx(data)
    np.testing.assert_array_equal(have, array)
    assert have.dtype == array.dtype


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file.*missing"),
        (b"\0\0\x08", "not an IDX file"),
        (gzip.compress(b"something", mtime=0), "not an IDX file.*1f 8b.*decompress"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (b"\0\0\x08\x03\0\0\0\x05", "truncated header, 8 bytes of at least 16"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], r"truncated, 17 bytes where shape \(2, 3\) needs 18"),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b"\0", "longer than its header says, 19"),
    ],
)
def test_a_malformed_idx_file_is_refused(data, message):
    with pytest.raises(ValueError, match=rf"^some/file: .*{message}"):
        read_idx(data, "some/file")


# The MNIST loader


def test_mnist_is_read_from_the_folder_and_cached(small):
    folder, content, arrays = small
    put(folder, content)
    loaded = load_mnist()
    check(loaded, arrays)
    assert load_mnist(folder) is loaded
    with pytest.raises(ValueError, match=r"read-only"):
        loaded.test_labels[0] = 1


def test_compressed_and_plain_files_may_be_mixed(small):
    folder, content, arrays = small
    first, *rest = content
    (folder / f"{first}.gz").write_bytes(gzip.compress(content[first]))
    put(folder, {name: content[name] for name in rest})
    check(load_mnist(), arrays)


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: b""])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_corrupt_local_file_is_refused_in_one_sentence(small, damage, suffix):
    folder, content, _ = small
    put(folder, content)
    name = "t10k-images-idx3-ubyte"
    (folder / name).unlink()
    whole = gzip.compress(content[name]) if suffix else content[name]
    (folder / f"{name}{suffix}").write_bytes(damage(whole))
    with pytest.raises(ValueError, match=rf"{name}{suffix} is corrupt.*delete it, or .*published file") as caught:
        load_mnist()
    assert "\n" not in str(caught.value)
    assert (folder / f"{name}{suffix}").read_bytes() == damage(whole)  # refused, not deleted


def test_absent_files_without_network_say_what_to_put_where(small):
    folder, content, _ = small
    put(folder, content)
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    message = str(caught.value)
    assert message.startswith(f"train-labels-idx1-ubyte is not in {folder}")
    assert "no network in this test" in message
    assert "put the published file there as train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz" in message
    assert "set ONWARD_DATA" in message
    assert "\n" not in message
    put(folder, content)  # the failure is not remembered
    load_mnist()


def serve(monkeypatch, answers):
    """Mirrors that answer by address; returns the list of what was asked for."""
    asked = []

    def download(url):
        asked.append(url)
        answer = answers(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(files, "_download", download)
    return asked


def test_absent_files_are_fetched_checked_and_kept(small, monkeypatch):
    folder, content, arrays = small
    folder.rmdir()
    asked = serve(monkeypatch, lambda url: gzip.compress(content[url.rsplit("/", 1)[1].removesuffix(".gz")]))
    check(load_mnist(), arrays)
    assert asked == [f"{mnist.MIRRORS[0]}{name}.gz" for name in content]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    mnist._load.cache_clear()
    check(load_mnist(), arrays)
    assert len(asked) == 4


def test_what_a_mirror_gets_wrong_is_thrown_away_and_the_next_is_asked(small, monkeypatch):
    folder, content, arrays = small
    wrong = iter(
        [gzip.compress(b"a page that says no"), b"not gzip", gzip.compress(b"x" * 99)[:-5], TimeoutError("timed out")]
    )

    def answers(url):
        good = gzip.compress(content[url.rsplit("/", 1)[1].removesuffix(".gz")])
        return good if url.startswith(mnist.MIRRORS[1]) else next(wrong)

    asked = serve(monkeypatch, answers)
    check(load_mnist(), arrays)
    assert len(asked) == 8
    assert {path.name for path in folder.iterdir()} == set(content)


def test_nothing_is_kept_when_every_mirror_is_wrong(small, monkeypatch):
    folder, _, _ = small
    asked = serve(monkeypatch, lambda url: gzip.compress(b"another file"))
    with pytest.raises(FileNotFoundError, match=r"wrong digest and was thrown away"):
        load_mnist()
    assert len(asked) == 2  # not eight: the first file that cannot be had ends it
    assert list(folder.iterdir()) == []


def test_a_failed_write_leaves_nothing_and_names_the_remedy(small, monkeypatch):
    folder, content, _ = small
    serve(monkeypatch, lambda url: gzip.compress(content[url.rsplit("/", 1)[1].removesuffix(".gz")]))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left on device.*set ONWARD_DATA to a writable folder"):
        load_mnist()
    assert list(folder.iterdir()) == []


def test_data_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path / "here"))
    assert data_home() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ONWARD_DATA", "~/there")
    assert data_home() == tmp_path / "there"
    for unset in (lambda: monkeypatch.setenv("ONWARD_DATA", ""), lambda: monkeypatch.delenv("ONWARD_DATA")):
        unset()
        assert data_home() == tmp_path / ".cache" / "onward"


# Fashion-MNIST


def test_fashion_mnist_has_a_folder_and_digests_of_its_own(small, monkeypatch):
    folder, content, arrays = small
    digests = {name: hashlib.md5(data).hexdigest() for name, data in content.items()}
    monkeypatch.setattr(mnist, "FASHION_FILES", digests)
    with pytest.raises(FileNotFoundError, match="fashion-mnist"):
        load_fashion_mnist()
    (folder.parent / "fashion-mnist").mkdir()
    put(folder.parent / "fashion-mnist", content)
    check(load_fashion_mnist(), arrays)
    with pytest.raises(FileNotFoundError):
        load_mnist()


def test_the_published_fashion_mnist_is_read():
    folder = data_home() / "fashion-mnist"
    missing = [name for name in mnist.FASHION_FILES if not any((folder / (name + end)).exists() for end in ("", ".gz"))]
    if missing:
        pytest.skip(f"Fashion-MNIST is not on this machine ({', '.join(missing)} not in {folder})")
    data = load_fashion_mnist()
    assert data.train_images.shape == (60_000, 784)
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
