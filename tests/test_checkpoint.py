"""Checkpoints: everything comes back as it was, in one file, and nothing that is not one is taken for one."""

import json
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import onward as ow
from onward import checkpoint
from onward.checkpoint import CheckpointError, load, load_network, read_header, save


def tree():
    return {
        "parameters": {"w": jnp.arange(6.0).reshape(2, 3), "b": np.float32([1, 2])},
        "optimizer": (jnp.int32(7), [jnp.ones(2, bool), None]),
    }


def blank(tree):
    return jax.tree.map(jnp.zeros_like, tree)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "run.safetensors"
    save(file, tree(), config={"cell": "gru"}, step=12)
    return file


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert not re.search(r"\. [A-Z]", text), text


DTYPES = "bool int8 uint16 int32 uint32 int64 float16 bfloat16 float32 float64 complex64 complex128 float8_e4m3fn"


@pytest.mark.parametrize("dtype", DTYPES.split())
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_every_dtype_and_shape_comes_back_bit_for_bit(tmp_path, dtype, shape):
    bits = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, (*shape, jnp.dtype(dtype).itemsize))
    array = bits.astype(np.uint8).view(jnp.dtype(dtype)).reshape(shape)
    save(tmp_path / "a", {"group": {"x": array}}, config=None, step=0)
    found = load(tmp_path / "a", {"group": {"x": jnp.zeros(shape, dtype)}})[0]["group"]["x"]
    assert (found.shape, found.dtype, found.tobytes()) == (array.shape, array.dtype, array.tobytes())


def test_random_keys_come_back(tmp_path):
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 2)
    save(tmp_path / "a", {"key": keys}, config=None, step=0)
    found = load(tmp_path / "a", {"key": jnp.zeros_like(keys)})[0]["key"]
    assert (jax.random.bits(found[1]) == jax.random.bits(keys[1])).all()
    with pytest.raises(CheckpointError, match=r"`key` is key<rbg> \(2,\) in the file and key<fry> \(2,\) here"):
        load(tmp_path / "a", {"key": jax.random.split(jax.random.key(3))})


def test_the_tree_and_the_header_come_back(path):
    found, header = load(path, blank(tree()))
    assert jax.tree.structure(found) == jax.tree.structure(tree())
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(tree()), strict=True))
    assert header["step"] == 12
    assert header["config"] == {"cell": "gru"}
    assert header["format"] == checkpoint.FORMAT
    assert header["jax"] == jax.__version__
    assert header["onward"]
    assert header == read_header(path)
    assert header["arrays"]["parameters.b"] == {"dtype": "float32", "shape": [2]}


def test_any_program_that_reads_safetensors_finds_the_arrays_by_their_paths(tmp_path):
    net = ow.stack(ow.cells.RNN(1, 2, key=jax.random.key(0)), readout=eqx.nn.Linear(2, 1, key=jax.random.key(1)))
    save(tmp_path / "a", {"parameters": eqx.filter(net, eqx.is_inexact_array)}, config=None, step=0)
    arrays = safetensors.numpy.load_file(tmp_path / "a")
    assert np.array_equal(arrays["parameters.nodes.readout.weight"], net.nodes["readout"].weight)
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        assert json.loads(file.metadata()["onward"])["step"] == 0


def test_a_group_alone_can_be_loaded(path):
    assert set(load(path, {"parameters": blank(tree()["parameters"])})[0]) == {"parameters"}


def test_the_best_parameters_are_preferred(tmp_path):
    net = ow.stack(ow.cells.RNN(1, 2, key=jax.random.key(0)))
    last = eqx.filter(net, eqx.is_inexact_array)
    best = jax.tree.map(lambda leaf: leaf + 1, last)
    save(tmp_path / "last", {"parameters": last}, config=None, step=0)
    save(tmp_path / "both", {"parameters": last, "best": best}, config=None, step=0)
    weight = lambda file, **how: load_network(tmp_path / file, blank_network(net), **how).nodes["0_rnn"].weight_hh  # noqa: E731
    assert np.array_equal(weight("last"), net.nodes["0_rnn"].weight_hh)
    assert np.array_equal(weight("both"), net.nodes["0_rnn"].weight_hh + 1)
    assert np.array_equal(weight("both", best=False), net.nodes["0_rnn"].weight_hh)


def blank_network(net):
    arrays, static = eqx.partition(net, eqx.is_inexact_array)
    return eqx.combine(blank(arrays), static)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_refused(path, keep):
    data = path.read_bytes()[:keep]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="truncated, or is no checkpoint") as error:
        load(path, blank(tree()))
    one_sentence(error)
    assert path.read_bytes() == data


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "a"
    for data in (b"hello, this is a text", safetensors.numpy.save({"w": np.zeros(2)})):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="checkpoint") as error:
            read_header(path)
        one_sentence(error)
    with pytest.raises(CheckpointError, match="there is no checkpoint") as error:
        read_header(tmp_path / "none")
    one_sentence(error)


def test_a_damaged_file_is_refused(path):
    data = bytearray(path.read_bytes())
    for place in (-1, data.index(b'step\\": 12') + 9):  # in an array, and in the header
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged") as error:
            load(path, blank(tree()))
        one_sentence(error)


def test_another_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match=r"of checkpoint format 1 \(Onward .*reads format 2") as error:
        load(path, blank(tree()))
    one_sentence(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t["parameters"].update(b=jnp.zeros(3, jnp.float32)),
            r"`parameters.b` is float32 \(2,\) in the file",
        ),
        (
            lambda t: t["parameters"].update(b=jnp.zeros(2, jnp.int32)),
            r"float32 \(2,\) in the file and int32 \(2,\) here",
        ),
        (lambda t: t["parameters"].update(c=jnp.zeros(2)), "`parameters.c` is not in the file"),
        (lambda t: t["parameters"].pop("b"), "`parameters.b` is only in the file"),
        (lambda t: t.update(carry={f"s{i}": jnp.zeros(2) for i in range(5)}), "and 2 more are not in the file"),
    ],
)
def test_what_does_not_fit_is_refused(path, change, message):
    like = blank(tree())
    change(like)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path, like)
    one_sentence(error)


def test_names_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"two arrays are called `a\.b\.c`") as error:
        save(tmp_path / "a", {"a": {"b": {"c": jnp.zeros(1)}, "b.c": jnp.zeros(1)}}, config=None, step=0)
    one_sentence(error)


@pytest.mark.parametrize("config", [{"x": float("nan")}, {"x": object()}, {1: 0, "a": 0}])
def test_a_header_that_json_cannot_say_is_refused_and_the_good_file_stays(path, config):
    data = path.read_bytes()
    with pytest.raises(TypeError, match="`config`"):
        save(path, tree(), config=config, step=13)
    assert path.read_bytes() == data


def test_a_failed_write_leaves_the_good_file_and_nothing_else(path, monkeypatch):
    data = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(path, tree(), config=None, step=13)
    assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_flushed_to_the_disk_before_it_takes_the_place_of_the_old_one(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(checkpoint.os, name)
        monkeypatch.setattr(checkpoint.os, name, lambda *a, n=name, f=original: (calls.append(n), f(*a))[1])
    save(path, tree(), config=None, step=13)
    assert calls == ["fsync", "replace", "fsync"]  # the data, the name, the directory
