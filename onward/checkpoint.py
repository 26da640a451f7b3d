"""Checkpoints: one safetensors file with every array by its tree path, and a JSON header that says what they are.

A file is written whole or not at all: to a temporary file beside it, which is flushed to the disk and then renamed, so
that a process killed at any moment leaves either the previous file or the new one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

FORMAT = 1

# What safetensors keeps as it is. Other types are kept as unsigned integers or floats of the same bits.
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_NATIVE = {"bool", "complex64", "float16", "float32", "float64"} | _INTEGERS


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit what it is loaded into."""


def save(path: str | os.PathLike, tree: Mapping[str, PyTree], *, config: Any, step: int, **header: Any) -> None:
    """Write `tree` and the header to `path`, atomically.

    **Arguments.** `tree`: group -> tree of arrays (typed PRNG keys among them). An array is called by its group and its
    path in it, as in "parameters.nodes.readout.weight". `config`, `step`, `header`: what JSON can say; they come back
    from `read_header`, beside the versions of the format, of Onward and of JAX, and each array's dtype and shape.
    **Raises.** `TypeError` if JSON cannot say the header; `OSError` if the file cannot be written. The file that was
    there stays in both cases.
    """
    arrays, described = {}, {}
    for name, leaf in _named(tree).items():
        dtype, shape, arrays[name] = _encode(leaf)
        described[name] = {"dtype": dtype, "shape": shape}
    versions = {"format": FORMAT, "onward": _version(), "jax": jax.__version__}
    full = versions | {"step": step, "config": config} | header | {"arrays": described}
    try:
        text = json.dumps(full | {"sha256": _digest(arrays, full)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the checkpoint's header cannot be written as JSON ({error}); "
            "give `config` only dicts, lists, strings, finite numbers, booleans and None"
        ) from None
    _write_atomically(Path(path), safetensors.numpy.save(arrays, {"onward": text}))


def load(path: str | os.PathLike, like: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """The groups of `like` from the file, as NumPy arrays in `like`'s trees, and the header.

    **Arguments.** `like`: group -> tree of arrays of the shapes and dtypes that are expected; other groups of the file
    are not looked at.
    **Raises.** `CheckpointError`, in one sentence, if there is no such file, if it is truncated, damaged, foreign or of
    another format, or if the arrays' names, shapes or dtypes are not those of `like`.
    **Example.**

        >>> import tempfile, os, jax.numpy as jnp
        >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
        >>> save(path, {"parameters": {"w": jnp.ones(2)}}, config={}, step=3)
        >>> tree, header = load(path, {"parameters": {"w": jnp.zeros(2)}})
        >>> tree["parameters"]["w"], header["step"]
        (array([1., 1.], dtype=float32), 3)
    """
    header, arrays = _read(Path(path))
    wanted = _named(like)
    present = {name for name in arrays if name.split(".", 1)[0] in like}
    for names, verdict in ((present - set(wanted), "only in the file"), (set(wanted) - present, "not in the file")):
        if names:
            raise CheckpointError(
                f"{path} does not fit: {_some(names)} {'is' if len(names) == 1 else 'are'} {verdict}; "
                "use the network, optimizer and options that it was saved with"
            )
    leaves = []
    for name, leaf in wanted.items():
        dtype, shape = _describe(leaf)
        found = header["arrays"][name]
        if [found["dtype"], found["shape"]] != [dtype, shape]:
            raise CheckpointError(
                f"{path} does not fit: `{name}` is {found['dtype']} {tuple(found['shape'])} in the file and "
                f"{dtype} {tuple(shape)} here; use the network, optimizer and options that it was saved with"
            )
        leaves.append(_decode(arrays[name], leaf))
    return jax.tree.unflatten(jax.tree.structure(dict(like)), leaves), header


def read_header(path: str | os.PathLike, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The header of a checkpoint.

    **Raises.** `CheckpointError` as `load` does, and where the "settings" in the header are not those expected.
    """
    header, _ = _read(Path(path))
    for name, value in (settings or {}).items():
        found = header.get("settings", {}).get(name)
        if found != value:
            raise CheckpointError(
                f"{path} is of a run with `{name}` = {found!r}, and this one has {value!r}; "
                "make them agree, or start anew with `resume=False`"
            )
    return header


def load_network(path: str | os.PathLike, network: PyTree, *, best: bool = True) -> PyTree:
    """`network` with a checkpoint's parameters: the best on validation if there are such and `best`, else the last.

    **Raises.** `CheckpointError` as `load` does.
    """
    parameters, static = eqx.partition(network, eqx.is_inexact_array)
    names = read_header(path)["arrays"]
    group = "best" if best and any(name.startswith("best.") for name in names) else "parameters"
    loaded = load(path, {group: parameters})[0][group]
    return eqx.combine(jax.tree.map(jnp.asarray, loaded), static)


def _named(tree):
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            raise CheckpointError(f"two arrays are called `{name}`; leave dots out of the names of nodes")
        named[name] = leaf
    return named


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf):
    dtype = str(leaf.dtype) if _is_key(leaf) else jnp.result_type(leaf).name
    return dtype, list(jnp.shape(leaf))


def _encode(leaf):
    dtype, shape = _describe(leaf)
    # ascontiguousarray would make a scalar an array of one.
    array = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    if array.dtype.name not in _NATIVE:
        array = array[..., None].view(np.float64 if array.dtype == np.complex128 else f"u{array.dtype.itemsize}")
    return dtype, shape, array


def _decode(array, like):
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    dtype = np.dtype(jnp.result_type(like))
    return array if dtype.name in _NATIVE else array.view(dtype)[..., 0]


def _digest(arrays, header):
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _read(path):
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); use another file") from None
    try:
        arrays = safetensors.numpy.load(data)
        described = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is truncated, or is no checkpoint ({error}); use another file") from None
    except KeyError as error:
        raise CheckpointError(f"{path} is no checkpoint, as it has arrays of type {error}; use another file") from None
    if "onward" not in described:
        raise CheckpointError(f"{path} is a safetensors file, but not one of Onward's checkpoints; use another file")
    try:
        header = json.loads(described["onward"])
        version, digest = header["format"], header.pop("sha256")
    except (ValueError, KeyError):
        raise CheckpointError(f"{path} is damaged: its header cannot be read; use another file") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{path} is of checkpoint format {version} (Onward {header.get('onward')}), and this is Onward "
            f"{_version()}, which reads format {FORMAT}; use the version that wrote it"
        )
    if digest != _digest(arrays, header):
        raise CheckpointError(f"{path} is damaged: it does not hold what was saved; use another file")
    return header, arrays


def _write_atomically(path, data):
    # One name for all attempts, so that a run that is killed while writing does not leave more and more files behind.
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _version():
    try:
        return metadata.version("onward")
    except metadata.PackageNotFoundError:
        return "unknown"


def _some(names):
    first = sorted(names)[:3]
    return ", ".join(f"`{name}`" for name in first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
