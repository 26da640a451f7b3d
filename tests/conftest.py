"""Every test runs in float64, so that exactness can be told from closeness."""

import os

# The tests compile many small programs and run each once: compile quickly rather than well.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
