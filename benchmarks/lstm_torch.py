"""Forward and BPTT of an LSTM against torch.nn.LSTM on the same weights, both on all cores.

    python benchmarks/lstm_torch.py [--units 128] [--batch 128] [--lengths 98 784]

One virtual device per core, the batch sharded over them, as the command line does; torch uses its own threads.
"""

import argparse
import os

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from common import medians, report  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import onward as ow  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("units", 128), ("inputs", 1), ("batch", 128), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lengths", type=int, nargs="+", default=[98, 784])
    options = parser.parse_args()
    module = torch.nn.LSTM(options.inputs, options.units, batch_first=True)
    net = ow.stack(ow.interop.from_torch(module))
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    parameters = jax.device_put(parameters, NamedSharding(mesh, PartitionSpec()))

    @jax.jit
    def gradient(parameters, window):
        network, algorithm = eqx.combine(parameters, static), ow.BPTT()
        carry = algorithm.init(network, batch=options.batch)
        _, estimate = algorithm.run(network, ow.losses.squared_error, carry, window)
        return estimate.loss, estimate.gradient

    for length in options.lengths:
        rng = np.random.default_rng(0)
        shape = options.batch, length
        arrays = rng.normal(size=(*shape, options.inputs)), rng.normal(size=(*shape, options.units)), np.ones(shape)
        arrays = [a.astype(np.float32) for a in arrays]
        window = jax.device_put(ow.Sample(*map(jnp.asarray, arrays)), NamedSharding(mesh, PartitionSpec("batch")))
        inputs, targets = torch.tensor(arrays[0]), torch.tensor(arrays[1])

        def in_torch(inputs=inputs, targets=targets):
            module.zero_grad()
            output, _ = module(inputs)
            loss = ((output - targets) ** 2).sum(dim=(1, 2)).mean()
            loss.backward()
            return float(loss.detach())

        times = medians({"onward": lambda w=window: gradient(parameters, w), "torch": in_torch}, options.runs)
        loss, _ = gradient(parameters, window)
        report(
            f"LSTM, {options.units} units, batch {options.batch}, T = {length}, {len(jax.devices())} devices",
            {
                "onward": f"{times['onward']:.4f} s",
                "torch": f"{times['torch']:.4f} s ({torch.get_num_threads()} threads)",
                "ratio": f"{times['onward'] / times['torch']:.2f} of torch's time",
                "same loss to": f"{abs(float(loss) / in_torch() - 1):.1e}",
            },
        )


if __name__ == "__main__":
    main()
