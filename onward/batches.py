"""From a source of samples to checked arrays on the devices."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from onward.algorithms.base import check_window
from onward.gradients import check_finite
from onward.network import Network
from onward.sample import Sample
from onward.tasks.base import Task

Source = Task | Iterable[Sample] | Callable[[], Iterable[Sample]]


def batches(
    source: Source, seed: int, batch_size: int, *, start: int = 0, passes: float = math.inf
) -> Iterator[tuple[float | None, Sample]]:
    """The training batches of `source` from number `start` on, each with the epochs that are done after it.

    A task makes batch `start` directly. Anything else is read from its beginning and the first `start` batches are
    dropped: a list or a function that returns an iterator is read up to `passes` times, an iterator once.
    """
    if isinstance(source, Task):
        for step in itertools.count(start):
            count = source.batches(batch_size)
            yield count and (step + 1) / count, source.train_batch(seed, step, batch_size)
        return
    number, epoch = 0, 0
    while epoch < passes:
        before = number
        for sample in source() if callable(source) else source:
            number += 1
            if number > start:
                yield epoch, sample
        if number == 0:
            raise ValueError("`source` yields no batches; give it some, or a function that returns a fresh iterator")
        if number == before:  # an iterator, which cannot be read again
            return
        epoch += 1


class Checker:
    """Makes NumPy arrays of a sample's leaves and raises one clear sentence where the network cannot learn from them.

    Shapes and dtypes are checked when they are new, numbers always.
    """

    def __init__(self, network: Network, least: tuple[str, int] = ("", 1)):
        """`least`: the argument that asks for a number of steps, and the number."""
        self._network, self._least, self._known = network, least, set()

    def __call__(self, name: str, sample: Any) -> Sample:
        """`sample` on the host; `name` is what messages call it."""
        if not isinstance(sample, Sample):
            raise TypeError(f"{name} must be an onward.Sample(input, target, weight), got {type(sample).__name__}")
        # Copies: the caller may use its arrays again while the devices still read.
        sample = jax.tree.map(lambda leaf: np.array(leaf), sample)
        leaves, tree = jax.tree.flatten(sample)
        form = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        try:
            if form not in self._known:
                self._check_form(sample)
                self._known.add(form)
            self._check_tokens(sample)
            if not all(np.isfinite(leaf).all() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)):
                check_finite(sample)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        return sample

    def _check_tokens(self, sample):
        if self._network.reads_integers:
            sizes = [n.weight.shape[0] for n in self._network.nodes.values() if isinstance(n, eqx.nn.Embedding)]
            low, high = sample.input.min(), sample.input.max()
            if low < 0 or high >= min(sizes):
                raise ValueError(
                    f"`input` holds integers from {low} to {high}, but the network's embedding has {min(sizes)} rows; "
                    "build the network with the task's number of tokens"
                )

    def _check_form(self, sample):
        if not sample.batched:
            raise ValueError(
                f"`weight` must have shape [batch, time], got {sample.weight.shape}; give every leaf a batch axis, "
                "e.g. with jax.tree.map(lambda leaf: leaf[None], sample)"
            )
        check_window(self._network, sample)
        if self._network.reads_integers and not np.issubdtype(np.asarray(sample.input).dtype, np.integer):
            raise TypeError(
                f"`input` has dtype {sample.input.dtype}, but embeddings read it; convert it with .astype(int)"
            )
        name, least = self._least
        if least > sample.length:
            raise ValueError(
                f"`{name}` is {least} but the sequences have {sample.length} steps; "
                f"choose 1 to {sample.length}, or None for the whole sequence"
            )


class Devices:
    """All devices with the batch spread over them, or one where the batch size is no multiple of their number."""

    def __init__(self, batch_size: int):
        devices = jax.devices()
        if batch_size % len(devices):
            if jax.process_count() > 1:
                raise ValueError(
                    f"`batch_size` must be a multiple of the {len(devices)} devices of all processes, got {batch_size}"
                )
            devices = devices[:1]
        mesh = Mesh(np.asarray(devices), ("batch",))
        self.count = len(devices)
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.spread = NamedSharding(mesh, PartitionSpec("batch"))

    def put(self, sample: Sample) -> Sample:
        """A batch from the host on the devices; a stray one that cannot be divided goes to each of them."""
        divides = len(sample.weight) % self.count == 0
        return jax.device_put(sample, self.spread if divides else self.replicated)

    def copy(self, tree: PyTree, *, spread: bool = False) -> PyTree:
        """A copy of the arrays of `tree` in buffers of their own, on every device or with the first axis spread."""
        return _copier(self.spread if spread else self.replicated)(tree)

    def fetch(self, tree: PyTree) -> PyTree:
        """The arrays of `tree` as ordinary ones, which go with any others."""
        return jax.tree.map(jnp.asarray, jax.device_get(self.copy(tree)))


@lru_cache
def _copier(sharding):
    def copy(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.clone(leaf)
        return jnp.array(leaf, dtype=leaf.dtype, copy=True)  # the dtype ends weak types, which would compile twice

    return jax.jit(lambda tree: jax.tree.map(copy, tree), out_shardings=sharding)


def fill(sample: Sample, size: int) -> Sample:
    """The batch filled up to `size` sequences with copies of its first that have weight 0."""
    missing = size - len(sample.weight)
    if missing <= 0:
        return sample
    more = jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], missing, axis=0)]), sample)
    more.weight[len(sample.weight) :] = 0
    return more
