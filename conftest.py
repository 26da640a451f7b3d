"""Tests and doctests compile many small programs and run each once: compile quickly rather than well."""

import os
from collections.abc import Generator

import jax
import pytest

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"  # in one piece: there is a process for every core
if jax.__version_info__[:2] == (0, 10):
    # The classic emitters take half the time. A flag that XLA does not know would end the process.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()  # read when the first array is made

jax.config.update("jax_traceback_in_locations_limit", 0)  # where an operation was written is for profiles

collect_ignore = ["onward/interop", "onward/serve"]  # no examples, and what they import may not be installed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """An example of a docstring shows what a user sees: JAX as it is by default, whatever the tests have set."""
    before = jax.config.read("jax_enable_x64")
    if not before or not isinstance(item, pytest.DoctestItem):
        return (yield)
    jax.config.update("jax_enable_x64", False)
    try:
        return (yield)
    finally:
        jax.config.update("jax_enable_x64", True)
