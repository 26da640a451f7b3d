"""A warning of releases of jaxlib that compute wrong numbers."""

import importlib.metadata
import os
import warnings


def warn_of_faults(version: str, flags: str) -> None:
    """Warn where `version` of jaxlib sums wrongly on CPUs, unless the flags of XLA say that it shall not do so.

    jaxlib 0.10.2 hands products that are summed to a library that loses track in arrays of more than 32,768 numbers:
    https://github.com/jax-ml/jax/issues/39103. RTRL's influence through a layer norm is wrong by a third then.
    """
    if version == "0.10.2" and "ynn" not in flags:
        warnings.warn(
            "jaxlib 0.10.2 computes some sums wrongly on CPUs (jax-ml/jax issue 39103), gradients among them; install "
            "another with pip install 'jax!=0.10.2', or start with "
            "XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=-reduce",
            RuntimeWarning,
            stacklevel=2,
        )


warn_of_faults(importlib.metadata.version("jaxlib"), os.environ.get("XLA_FLAGS", ""))
