"""The only place where names become classes: algorithms, cells, networks and tasks."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import equinox as eqx
import jax

from onward import algorithms, cells, networks
from onward.algorithms import Algorithm
from onward.algorithms.feedback import with_feedback
from onward.cells import Cell
from onward.cli.config import NetworkConfig
from onward.cli.errors import UsageError
from onward.cli.specs import Spec, call, choose, options_of, parse, sentence
from onward.network import Network
from onward.tasks import TASKS, Task
from onward.tasks.language import LanguageModel

ALGORITHMS: dict[str, type[Algorithm]] = {
    "bptt": algorithms.BPTT,
    "reversible-bptt": algorithms.ReversibleBPTT,
    "nth-order": algorithms.NthOrder,
    "spatialbp": algorithms.SpatialBP,
    "rtrl": algorithms.RTRL,
    "snap": algorithms.SnAp,
    "eprop": algorithms.EProp,
    "uoro": algorithms.UORO,
    "kf-rtrl": algorithms.KFRTRL,
    "ok": algorithms.OK,
    "forward-errors": algorithms.ForwardErrors,
}
SHORT = {"snap1": "snap:1", "rflo": "eprop:feedback=random"}
CELLS: dict[str, Callable[..., Cell]] = {
    "rnn": cells.RNN,
    "gru": cells.GRU,
    "lstm": cells.LSTM,
    "lru": cells.LRU,
    "indrnn": cells.IndRNN,
    "rtu": cells.RTU,
    "elementwise-lstm": cells.ElementwiseLSTM,
    "leaky-rnn": cells.LeakyRNN,
    "antisymmetric-rnn": cells.AntisymmetricRNN,
    "rev-gru": cells.RevGRU,
    "rev-lstm": cells.RevLSTM,
    "leapfrog": cells.Leapfrog,
    "lif": cells.LIF,
    "alif": cells.ALIF,
}
NETWORKS: dict[str, str] = {
    "lru-blocks": "blocks of LRU, linear map, layer norm and MLP, without skips; the MNIST98 network",
    "stack": "layers of one cell (network.cell) and an affine readout",
}


@dataclass(frozen=True)
class Choice:
    """An algorithm as asked for on the command line, and the steps between its updates (None: one per sequence)."""

    text: str
    algorithm: Algorithm
    window: int | None

    @property
    def label(self) -> str:
        """How tables and plots call it, e.g. `SnAp(1) @14`."""
        shown = [
            f"{value}" if f.name == "n" else f"{f.name}={value}"
            for f in fields(self.algorithm)
            if (value := getattr(self.algorithm, f.name)) != f.default or f.name == "n"
        ]
        name = type(self.algorithm).__name__ + (f"({', '.join(shown)})" if shown else "")
        return name if self.window is None else f"{name} @{self.window}"

    @property
    def slug(self) -> str:
        """A name for its folder, e.g. `snap1-w14`."""
        text = self.text.lower().replace("@", "-w")
        return "".join(c if c.isalnum() or c in "-." else "-" for c in text)

    def updates(self, length: int) -> int:
        """Updates made while one sequence of `length` steps runs."""
        return 1 if self.window is None else -(-length // self.window)

    def exact_on(self, network: Network, length: int) -> bool:
        """Whether the gradient of a whole sequence at fixed parameters is BPTT's; truncated BPTT's is not."""
        truncated = self.algorithm.kind != "online" and self.window is not None and self.window < length
        return self.algorithm.exact_on(network) and not truncated


def make_algorithm(text: str) -> Choice:
    """The algorithm that `text` names, e.g. `nth-order:5`, `bptt:checkpoint=sqrt` or `snap1@14`."""
    spec = parse(text, "algorithm", windowed=True)
    if spec.name in SHORT:
        full = parse(SHORT[spec.name], "algorithm")
        spec = Spec(spec.text, full.name, full.positional + spec.positional, full.options | spec.options, spec.window)
    return Choice(spec.text, call(choose(spec, ALGORITHMS, "algorithm"), spec, "algorithm"), spec.window)


def make_algorithms(texts: Sequence[str]) -> list[Choice]:
    """The algorithms that `texts` name; a `UsageError` where one is there twice, however it is written."""
    choices: list[Choice] = []
    for text in texts:
        choice = make_algorithm(text)
        for other in choices:
            if (choice.algorithm, choice.window) == (other.algorithm, other.window):
                same = "" if choice.text == other.text else f" (as {other.text!r})"
                raise UsageError(f"--algorithms has {choice.text!r} twice{same}; leave one out.")
        choices.append(choice)
    return choices


def make_task(text: str) -> Task:
    """The task that `text` names, e.g. `mnist98` or `copy:length=5,delay=20`."""
    spec = parse(text, "task")
    try:
        return call(choose(spec, TASKS, "task"), spec, "task")
    except OSError as error:
        raise UsageError(sentence(error)) from error


def build_network(task: Task, config: NetworkConfig, seed: int) -> Network:
    """The network of `config` with the task's sizes; initial weights are a function of `seed` alone."""
    pooling = wants_pooling(task) if config.pooling == "auto" else config.pooling == "on"
    text = isinstance(task, LanguageModel)
    sizes: dict[str, Any] = {"units": config.units, "layers": config.layers}
    words = {name: getattr(config, name) for name in ("tied", "dropout", "weight_drop", "softmaxes")}
    if config.density != 1 and (text or config.kind != "stack"):
        raise UsageError("--network.density is for --network.kind stack, and not for texts; leave it out.")
    if text and config.pooling == "on":
        raise UsageError("--network.pooling on: a text is asked about at every step; leave it out.")
    if text and config.kind == "stack":
        sizes |= words
    elif words != {name: getattr(NetworkConfig(), name) for name in words}:
        raise UsageError(
            "--network.tied, dropout, weight-drop and softmaxes are for texts and --network.kind stack; leave them out."
        )
    else:
        sizes["pooling"] = pooling
    if config.kind == "lru-blocks":
        ring = {"r_min": config.r_min, "r_max": config.r_max, "width": config.width, "embed": text}
        make = functools.partial(networks.lru_blocks, task.input_size, task.output_size, **ring)
    else:
        spec = parse(config.cell, "cell")
        cell = choose(spec, CELLS, "cell")
        sparse = {"density": config.density}
        stacked = functools.partial(networks.cell_stack, cell, task.input_size, task.output_size, **sparse)
        of_text = functools.partial(networks.language_model, task.output_size, cell=cell)
        make = functools.partial(of_text if text else stacked, **options_of(cell, spec, "cell"))
    try:
        # Compiled as one function, since a dozen small ones take several times as long.
        build = eqx.filter_jit(lambda key: make(key=key, **sizes))
        network = build(jax.random.key(seed))
        return with_feedback(network, seed=seed) if config.feedback else network
    except (TypeError, ValueError) as error:
        raise UsageError(f"the network cannot be built: {sentence(error)}") from error
    except (MemoryError, OverflowError, jax.errors.JaxRuntimeError) as error:
        raise UsageError(
            f"the network cannot be built: {config.layers} layers of {config.units} units do not fit in memory; "
            "choose a smaller --network.layers, --network.units or --network.width, or a smaller task."
        ) from error


def wants_pooling(task: Task) -> bool:
    """Whether a network for this task ends with a cumulative mean: images that are asked about at every step."""
    return task.name == "mnist98" or bool(task.options.get("every_step"))
