"""One batch of FPTT on an LSTM against the same thing written with torch.nn.LSTM and torch's Adam, on all cores.

    python benchmarks/fptt_torch.py [--units 128] [--batch 128] [--length 784] [--windows 28]

Both cut the sequence into windows, take the cross-entropy with the label at each window's end, add FPTT's regulariser
(running variant, alpha 0.5), clip the gradient at norm 1 and update with Adam after each window. Onward does it as
`onward.train` does, one compiled call a batch; BPTT of the whole sequence is beside it.
"""

import argparse
import os

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from common import medians, report  # noqa: E402

import onward as ow  # noqa: E402
from onward.batches import Devices  # noqa: E402
from onward.update import Plan, initial_state, make_update  # noqa: E402

ALPHA = BETA = 0.5


class InTorch:
    """The loop of the authors' scripts."""

    def __init__(self, units, classes):
        self.lstm, self.readout = torch.nn.LSTM(1, units, batch_first=True), torch.nn.Linear(units, classes)
        self.parameters = [*self.lstm.parameters(), *self.readout.parameters()]
        self.anchors = [p.detach().clone() for p in self.parameters]
        self.estimates = [torch.zeros_like(p) for p in self.parameters]
        self.adam = torch.optim.Adam(self.parameters, 1e-3)

    def batch(self, inputs, labels, window):
        carry = None
        for start in range(0, inputs.shape[1], window):
            self.adam.zero_grad()
            output, carry = self.lstm(inputs[:, start : start + window], carry)
            loss = torch.nn.functional.cross_entropy(self.readout(output[:, -1]), labels)
            loss.backward()
            with torch.no_grad():
                for p, anchor, estimate in zip(self.parameters, self.anchors, self.estimates, strict=True):
                    p.grad += ALPHA * (p - anchor) - estimate
                torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.adam.step()
                for p, anchor, estimate in zip(self.parameters, self.anchors, self.estimates, strict=True):
                    estimate -= ALPHA * (p - anchor)
                    anchor.mul_(1 - BETA).add_(p, alpha=BETA).sub_(estimate, alpha=BETA / ALPHA)
            carry = tuple(c.detach() for c in carry)
        return float(loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("units", 128), ("batch", 128), ("length", 784), ("windows", 28), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = options.batch, options.length
    inputs = rng.random(size=(*shape, 1)).astype(np.float32)
    labels = rng.integers(10, size=options.batch)
    devices = Devices(options.batch)
    net = ow.networks.cell_stack(ow.cells.LSTM, 1, 10, units=options.units, key=jax.random.key(0))
    static = eqx.partition(net, eqx.is_inexact_array)[1]
    sample = ow.Sample(inputs, np.repeat(labels[:, None], options.length, 1), np.ones(shape, np.float32))
    sample = devices.put(jax.tree.map(jnp.asarray, sample))
    tail = optax.clip_by_global_norm(1.0), optax.adam(1e-3)
    work, memory = {}, {}
    for name, count, chain in (("FPTT", options.windows, (ow.fptt(ALPHA, BETA), *tail)), ("BPTT", 1, tail)):
        optimizer = optax.chain(*chain)
        plan = Plan(windows_per_sequence=count, intermediate=ow.IntermediateLosses())
        update = make_update(static, ow.BPTT(), optimizer, ow.losses.cross_entropy, plan, devices)
        states = [initial_state(net, ow.BPTT(), optimizer, 0, plan, options.batch, devices)]
        compiled = update.lower(states[0], sample).compile()
        memory[name] = compiled.memory_analysis().temp_size_in_bytes

        def step(states=states, compiled=compiled):
            states[0], figures = compiled(states[0], sample)
            return figures

        work[name] = step
    torch_loop = InTorch(options.units, 10)
    batch = torch.tensor(inputs), torch.tensor(labels)
    work["torch"] = lambda: torch_loop.batch(*batch, options.length // options.windows)
    times = medians(work, options.runs)
    report(
        f"FPTT, LSTM of {options.units}, batch {options.batch}, T = {options.length}, K = {options.windows}",
        {
            "onward": f"{times['FPTT']:.3f} s a batch on {len(jax.devices())} devices",
            "torch": f"{times['torch']:.3f} s a batch ({torch.get_num_threads()} threads)",
            "ratio": f"{times['FPTT'] / times['torch']:.2f} of torch's time",
            "BPTT in onward": f"{times['BPTT']:.3f} s a batch",
            "temporary memory a device": f"FPTT {memory['FPTT'] / 1e6:.0f} MB, BPTT {memory['BPTT'] / 1e6:.0f} MB",
        },
    )


if __name__ == "__main__":
    main()
