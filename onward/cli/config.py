"""What can be set on the command line and in a configuration file, with the help text of each option."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

Count = Annotated[int | None, tyro.conf.arg(metavar="INT")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class NetworkConfig:
    """The network; its sizes of input and output are the task's."""

    kind: Literal["lru-blocks", "stack"] = "lru-blocks"
    """lru-blocks: blocks of LRU, linear map, layer norm and MLP (the MNIST98 network). stack: layers of one cell."""
    cell: str = "gru"
    """Cell of a stack, with options: gru, lstm, lru:r_min=0.9, leaky-rnn:leak=0.8, alif:tau_a=500; see onward list."""
    layers: int = 4
    """Recurrent layers."""
    density: float = 1.0
    """Share of recurrent connections that there are (stack, not for texts)."""
    units: int = 32
    """Units in each recurrent layer; of an LRU, complex ones."""
    width: int = 32
    """Features handed from block to block (lru-blocks)."""
    r_min: float = 0.9
    """Smallest modulus of the initial eigenvalues (lru-blocks)."""
    r_max: float = 1.0
    """Largest modulus of the initial eigenvalues (lru-blocks)."""
    pooling: Literal["auto", "on", "off"] = "auto"
    """Mean of all outputs so far as the output; auto: on where an image is asked about at every step."""
    tied: bool = False
    """The map to the vocabulary has the embedding's weights (stack, texts)."""
    dropout: float = 0.0
    """Share of what layers read that is dropped in training, the same for a whole sequence (stack, texts)."""
    weight_drop: float = 0.0
    """Share of recurrent weights that is dropped in training, the same for a whole batch (stack, texts)."""
    softmaxes: int = 1
    """Softmaxes that are mixed (stack, texts)."""
    feedback: bool = False
    """Matrices that bring errors to the cells, which eprop:feedback=adaptive learns."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer. Recurrent parameters have no weight decay."""

    name: Literal["adamw", "rmsprop"] = "adamw"
    """adamw, or rmsprop: each gradient divided by its root mean square, without momentum."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: decays to 0 at the last step."""
    warmup: Count = None
    """Batches in which the learning rate rises from 0 to its peak; by default a tenth of the run, at most 100."""
    weight_decay: float = 0.01
    """Decoupled weight decay of all parameters that are not recurrent."""
    recurrent_factor: float = 0.5
    """Learning rate of recurrent parameters, as a multiple of that of the others."""
    clip: float = 1.0
    """Largest global norm of a gradient; 0 leaves gradients as they are."""
    fptt: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """FPTT's alpha, the pull towards its anchor; sequences of T steps are then cut into sqrt(T) windows, unless the
    algorithm says at how many steps, as in bptt@28. A window's loss is its share of the sequence's."""
    fptt_linear: float = 1.0
    """FPTT's share of the running gradient in the direction: 1 as in its authors' code, 0.5 as printed."""


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Options of every command that makes a network for a task."""

    task: str = "mnist98"
    """Task, with options: mnist98, copy:length=10,delay=20, adding:length=200, ptb-char; all of them: onward list."""
    out: Folder = None
    """Folder for everything the run writes; made if it is not there. By default one in runs/, named after the time."""
    config: File = None
    """TOML file with values for these options ([network] and [optimizer] are tables); options given here win."""
    seed: int = 0
    """Seed of initial weights and of the order of the data."""
    batch_size: int = 64
    """Sequences in a batch."""
    memory_fraction: float = 0.8
    """Share of the available memory that a step may need before it is declined."""
    force: bool = False
    """Run even what is estimated not to fit in memory."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True, kw_only=True)
class RunConfig(CommonConfig):
    """Options that every training run has."""

    resume: bool = False
    """Go on with the unfinished run in --out, with its own configuration."""
    steps: Count = None
    """Batches to train on."""
    epochs: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Passes over the training set, instead of --steps."""
    validate_every: Count = None
    """Batches between looks at the validation set; by default a twentieth of the run."""
    align_every: Count = None
    """Batches between measurements of the cosine with BPTT's gradient; by default a fortieth of the run, 0: never."""
    checkpoint_every: Count = None
    """Batches between checkpoints; by default a twentieth of the run. There is also one whenever the run stops."""
    losses_on_the_way: bool = False
    """Ask for the answer at the end of every window too, where a task asks at the end only (as FPTT wants it)."""
    devices: Count = None
    """Virtual CPU devices the batch is spread over; by default one per core, if the batch divides by them."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(RunConfig):
    """Train one network with several algorithms from the same weights on the same batches, and report on them.

    An algorithm is written as a name, its options after a colon, and after @ the steps between its updates:
    spatialbp, bptt, bptt:checkpoint=sqrt, snap1, eprop:depth=traces, rtrl, rtrl:decay=0.99, nth-order:5. snap1@49
    updates after every 49 steps while the sequence runs; without @ there is one update at the sequence's end.
    `onward list` describes all of them. Before it trains, each algorithm's memory and time on this network are
    estimated; what cannot fit in memory is left out.
    """

    algorithms: tuple[str, ...] = ("spatialbp", "bptt", "snap1@49")
    """Algorithms to compare, for example: spatialbp bptt snap1@49 rtrl."""
    preset: Literal["demo", "quick", "full", "immediate"] = "demo"
    """demo: a few minutes. full: 1,000,000 samples, as published. quick: a tiny network, two algorithms, as a check.
    immediate: are immediate derivatives with RMSprop enough? SpatialBP, SnAp(1) and RTRL that update after every step,
    and BPTT, all with RMSprop on a tanh layer, as "Temporal credit is free" (arXiv:2603.28750) claims."""


@dataclass(frozen=True, kw_only=True)
class GradientsConfig(CommonConfig):
    """Hold the gradients of several algorithms against the exact one, on one network and one stream, and report.

    A batch of sequences is cut into windows. States and traces go on from window to window while the weights stay as
    they are. The exact gradient is that of a window's losses through the whole past, which is what RTRL gives. For each
    algorithm, window and group of parameters: the cosine and the ratio of norms with it, bias and standard deviation
    relative to it; and for each algorithm seconds and memory. What draws at random runs with several keys.

    An algorithm is written as for `onward compare`, without @: spatialbp, snap1, eprop, eprop:traces, rtrl:decay=0.99,
    uoro, bptt (which a window truncates). Whether a gradient that is off still learns is for `onward compare` to say:
    `onward compare --preset immediate` trains immediate derivatives (SpatialBP) with RMSprop beside RTRL and BPTT.
    """

    algorithms: tuple[str, ...] = ("spatialbp", "eprop", "snap1", "uoro", "bptt")
    """Algorithms to compare, for example: spatialbp snap1 eprop uoro kf-rtrl rtrl."""
    batch_size: int = 16
    """Sequences in the batch; a gradient is the mean over them."""
    window: Count = None
    """Steps in a window; by default about an eighth of a sequence."""
    keys: int = 8
    """Keys that an algorithm that draws at random runs with."""
    groups: Literal["nodes", "arrays"] = "nodes"
    """Groups of parameters: the nodes of the network, or each array of each node."""
    train: int = 0
    """Batches to train on with BPTT before; 0 compares at the initial weights."""
    checkpoint: File = None
    """Checkpoint (or the folder of a run) whose network and task are taken, with its best weights."""
    preset: Literal["demo", "quick", "immediate"] = "demo"
    """demo: the defaults. quick: a tiny network on a copy task, as a check. immediate: the network, the task and the
    algorithms of `onward compare --preset immediate`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Train one network with one algorithm on one task, and test it.

    The algorithm is written as a name, its options after a colon, and after @ the steps between its updates:
    bptt, bptt:checkpoint=sqrt, snap1@14, eprop:depth=traces, rtrl:decay=0.99, nth-order:5. Without @ there is one
    update at a sequence's end. `onward list` describes all of them.
    """

    algorithm: str = "bptt"
    """Algorithm, for example bptt, snap1@14 or rtrl@1."""
    patience: Count = None
    """Stop after so many looks at the validation set without a new best."""
    stateful: bool = False
    """Carry states and traces over from batch to batch instead of starting each sequence anew (texts always do)."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run's folder (needs `pip install tensorboardX`)."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Rebuild the network and the task of a checkpoint, and measure it on data it was not trained on."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """Checkpoint file, or the folder of a run."""
    split: Literal["test", "validation"] = "test"
    """Data to evaluate on."""
    which: Literal["best", "last"] = "best"
    """Parameters: those that were best on the validation set, or the last ones."""
    batch_size: int = 500
    """Sequences to evaluate at once."""
    json: bool = False
    """Print one line of JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Describe what there is: algorithms with exactness, memory, passes and source; tasks; cells; networks."""

    what: Annotated[
        tyro.conf.Positional[Literal["all", "algorithms", "tasks", "cells", "networks"]],
        tyro.conf.arg(metavar="[algorithms|tasks|cells|networks]"),
    ] = "all"
    """Only one of these; everything by default."""


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Repeat a study: measure, then write its table (CSV), figures (PNG and PDF), text and settings.

    gradient-quality: cosine and error of forward propagation of errors against BPTT, by r_min and T.
    precision: how many digits it takes to invert a network that forgets, in several kinds of numbers.
    complexity: measured memory and time of every algorithm, by number of units and length.
    iterative-bptt: what "Exact iterative BPTT" claims: exactness, cross terms, cost, long memory, chaos (20 minutes).
    deep-eprop: nested traces against the spatial shortcut, in gradient, learning and cost (some hours).
    passes: what each further pass of forward propagation of errors is worth, on MNIST98.
    mnist98-table: the published table of test losses and accuracies, with a search for learning rates (many hours).
    adding: FPTT and each of its parts beside BPTT, on the adding task of up to 1,000 steps (some hours).
    adding-k: FPTT by the number of windows, on the adding task of 200 steps (an hour).
    ptb300: BPTT and FPTT side by side on the Penn Treebank (else Brown) cut every 300 words (hours).
    alpha: FPTT by its alpha, on the same texts (some hours).
    fptt-online: FPTT on the gradients of e-prop, SnAp(1) and RTRL, on permuted MNIST (an hour).
    smnist, psmnist: BPTT and FPTT on MNIST and Fashion-MNIST pixel by pixel, in order or permuted (an hour each).
    architectures: LSTM, GRU and AntisymmetricRNN with BPTT and FPTT, on CIFAR-10 or else permuted Fashion-MNIST.
    auxiliary-loss: windows and losses on the way, each with and without the other, on the same.
    streams: real series forecast as they come, by algorithms, River's models and naive forecasts (an hour).
    """

    study: Annotated[
        tyro.conf.Positional[
            Literal[
                "gradient-quality",
                "precision",
                "complexity",
                "iterative-bptt",
                "deep-eprop",
                "passes",
                "mnist98-table",
                "adding",
                "adding-k",
                "smnist",
                "psmnist",
                "architectures",
                "auxiliary-loss",
                "fptt-online",
                "ptb300",
                "alpha",
                "streams",
            ]
        ],
        tyro.conf.arg(metavar="STUDY"),
    ]
    """Which study: one of the names above."""
    quick: bool = False
    """A smaller form that takes less than two minutes."""
    out: Folder = None
    """Folder for everything the study writes; made if it is not there. By default one in runs/."""
    resume: bool = False
    """Go on with the unfinished study in --out; what it has measured is kept."""
    recurrent_factor: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Learning rate of recurrent parameters, as a multiple of that of the others (passes, mnist98-table; else 0.5)."""
    seed: int = 0
    """Seed of all that is random."""
