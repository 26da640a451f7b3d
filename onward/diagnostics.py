"""What an algorithm will cost on a network, before anything is trained: memory and time of a step."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import optax

from onward.algorithms import Algorithm
from onward.batches import Devices
from onward.network import Network
from onward.sample import Sample
from onward.update import Plan, initial_state, make_update


@dataclass(frozen=True)
class Cost:
    """What one training step will cost.

    **Units.** `carry`: bytes that go from window to window. `memory`: bytes of the compiled step over all devices,
    arguments, results and temporary arrays; `seconds`: a step's median. Both None where they were not found out.
    `declined`: why the step should not be run, or "".
    """

    carry: int
    memory: int | None
    seconds: float | None
    declined: str = ""


def estimate(
    network: Network,
    batch: Sample,
    *,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    window: int | None = None,
    stateful: bool = False,
    budget: float | None = None,
    timed: int = 3,
) -> Cost:
    """The cost of a training step on `batch`, without spending more than `budget` bytes to find it out.

    First the carry's size is worked out from shapes alone, then the step is compiled and the compiler's plan of its
    memory is read; only a step that fits the budget is then run, `timed` times (once if it takes over a second).

    **Arguments.** As for `onward.train`; `batch` is a batch [batch, time, ...] as training will see it. `budget`: None
    sets no limit.
    **Raises.** `ValueError` if the algorithm cannot serve the network or the window does not fit.
    """
    count = len(batch.weight)
    carry = carry_bytes(network, algorithm, count)
    if declined := over_budget(budget, carry):
        return Cost(carry, None, None, declined)
    devices, static = Devices(count), eqx.partition(network, eqx.is_inexact_array)[1]
    plan = Plan(window, stateful=stateful)
    update = make_update(static, algorithm, optimizer, loss, plan, devices)

    def start():
        return initial_state(network, algorithm, optimizer, 0, plan, count, devices)

    sample = devices.put(batch)
    compiled: Any = update.lower(*_shapes(start, devices), _described(sample, devices.spread)).compile()
    memory = compiled_memory(compiled, devices.count)
    if declined := over_budget(budget, carry, memory):
        return Cost(carry, memory, None, declined)
    return Cost(carry, memory, _time(compiled, start(), sample, timed))


def over_budget(budget: float | None, carry: int, memory: int | None = None) -> str:
    """Why a step with such a carry, and in all so much memory, is not to be run within `budget` bytes, or ""."""
    if budget is not None and carry > budget:
        return f"what it carries from window to window alone is {gigabytes(carry)}"
    if budget is not None and memory is not None and memory > budget:
        return f"a step needs {gigabytes(memory)}"
    return ""


def compiled_memory(compiled: Any, devices: int = 1) -> int | None:
    """Bytes that a compiled function needs over all devices, as its compiler plans them; None where it does not say."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    arrays = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return int(devices * (arrays + plan.temp_size_in_bytes))


def gigabytes(value: float) -> str:
    """Bytes as text in GB, with as many digits as say something."""
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{value / 1e9:.2g} GB"


def _shapes(start: Callable, devices: Devices) -> tuple:
    state = jax.eval_shape(start)
    carry = _described(state.carry, devices.spread)
    return (_described(state, devices.replicated)._replace(carry=carry),)


def _described(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _time(compiled: Any, state: Any, sample: Sample, timed: int) -> float:
    """Median seconds of a step, after one that is not counted unless it takes over a second."""
    times = []
    for _ in range(timed + 1):
        began = time.perf_counter()
        state, figures = compiled(state, sample)
        jax.block_until_ready((state.parameters, figures))
        times.append(time.perf_counter() - began)
        if times[-1] > 1.0:
            break
    return statistics.median(times[1:] or times)


def carry_bytes(network: Network, algorithm: Algorithm, batch: int) -> int:
    """Bytes of what the algorithm carries from window to window for `batch` sequences; nothing is allocated.

    **Raises.** `ValueError` if the algorithm cannot serve the network.
    """
    shapes = jax.eval_shape(lambda: algorithm.init(network, key=jax.random.key(0), batch=batch))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def exact_share(network: Network, algorithm: Algorithm) -> float:
    """Share of the network's parameters whose gradient is BPTT's by theory, in [0, 1]."""
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(node, eqx.is_inexact_array)))
        for name, node in network.nodes.items()
    }
    return sum(sizes[name] for name in algorithm.exact_nodes(network)) / max(1, sum(sizes.values()))


def available_memory() -> int | None:
    """Bytes that this process may still allocate where JAX computes; None where that cannot be found out.

    On a GPU or TPU what its allocator has left. On a CPU: Linux' `MemAvailable`, or what is left of the control
    group's limit (containers) if that is less; on macOS the free, inactive and purgeable pages; elsewhere all of the
    memory.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        return None
    if sys.platform == "darwin":
        return _vm_stat() or _physical_memory()
    known = [value for value in (_mem_available(), _cgroup_left()) if value is not None]
    return min(known) if known else _physical_memory()


def _mem_available(path: str = "/proc/meminfo") -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _cgroup_left(root: str = "/sys/fs/cgroup") -> int | None:
    files = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for limit, used in files:
        try:
            most, now = (int(Path(root, name).read_text()) for name in (limit, used))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if most < 1 << 60:
            return max(0, most - now)
    return None


def _vm_stat() -> int | None:
    try:
        text = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
        page = int(text.split("page size of ")[1].split()[0])
        pages = dict(line.split(":") for line in text.splitlines()[1:] if ":" in line)
        kinds = ("Pages free", "Pages inactive", "Pages purgeable")
        return page * sum(int(pages.get(kind, "0").strip(" .")) for kind in kinds)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
