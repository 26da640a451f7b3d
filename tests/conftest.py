"""Every test runs in float64, so that exactness can be told from closeness."""

import gc
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
gc.set_threshold(100_000, 50, 100)  # tracing makes many objects that stay: collect them rarely
MAPPINGS = Path("/proc/self/maps")


def pytest_configure(config: pytest.Config) -> None:
    """Processes that tests start share what they compile; the tests' own processes compile for themselves."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="onward-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which reads the marks
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Keep the tests of one claim in one process, and those of one file elsewhere: they share compiled programs."""
    for item in items:
        claim = getattr(item, "callspec", None) and item.callspec.params.get("claim")
        item.add_marker(pytest.mark.xdist_group(claim.id if claim else item.path.name))


def pytest_runtest_teardown() -> None:
    """Drop compiled programs before their memory mappings reach Linux's usual limit of 65,530, where XLA crashes."""
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checker of annotations: a test of bad arguments sees the library's own messages, as users do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
