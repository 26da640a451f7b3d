"""What a task is, and the few things that all tasks share."""

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Bool

from onward.sample import Sample

Split = Literal["validation", "test"]
Purpose = Literal["train", "validation", "test", "epoch", "target"]

# What a stream of random numbers is for. No two purposes share numbers, whatever the seeds.
_PURPOSES: dict[Purpose, int] = {"train": 0, "validation": 1, "test": 2, "epoch": 3, "target": 4}


class Task(abc.ABC):
    """A source of batches to train on, fixed sets to evaluate on, and the measure of success.

    Everything is NumPy, made outside `jit`. A training batch is a pure function of (seed, step, batch size): a run that
    is resumed at a step sees exactly the batches it would have seen.

    **Attributes.** `name`: what `make` calls it. `input_size`, `output_size`: features a step of the network's input
    and output. `length`: steps in a sequence. `train_size`: examples in an epoch, `None` if they are generated without
    end. `loss`: `loss(output, target) -> scalar` for one step. `options`: what the task was made with, defaults
    included. `primary`: the entry of `summarise` to judge a network by, and `higher_is_better`: in which direction.
    `stateful`: whether a batch goes on where the last one ended, in each of its sequences; then states live on.
    `judged_by`: what `metrics` gets, "output" or the "loss" of each step `[batch, time]`, without its weight.

    **Not to be confused with** an environment: a task does not depend on what the network does.
    """

    name: ClassVar[str]
    primary: ClassVar[str]
    higher_is_better: ClassVar[bool]
    stateful: ClassVar[bool] = False
    judged_by: ClassVar[Literal["output", "loss"]] = "output"
    input_size: int
    output_size: int
    length: int
    train_size: int | None
    loss: Callable[[Any, Any], Any]
    options: dict[str, int | float | bool]

    @abc.abstractmethod
    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        """The batch of optimisation step `step` (from 0) in the run with this `seed`: leaves `[batch, time, ...]`.

        **Raises.** `ValueError` if a seed or step is negative or the batch is empty.
        """

    def batches(self, batch_size: int) -> float | None:
        """Batches in an epoch, which need not be whole; None where examples are generated without end."""
        return None if self.train_size is None else self.train_size / batch_size

    @abc.abstractmethod
    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        """The fixed examples of a split, once each and always in the same order; the last batch may be short.

        **Raises.** `ValueError` if there is no such split.
        """

    @abc.abstractmethod
    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Sums over a batch of whole sequences, and the "count" they are over, to be added up over batches.

        **Arguments.** `output` `[batch, time, output_size]`, or as `judged_by` says, `target` and `weight` as in the
        batch's `Sample`; all three without the batch axis for one sequence.
        """

    def summarise(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Derived metrics from sums of `metrics` over batches: each sum divided by the count.

        A sum "correct" becomes "accuracy", in [0, 1]; "squared_error" becomes "mean_squared_error".
        """
        names = {"correct": "accuracy", "squared_error": "mean_squared_error"}
        return {names.get(key, key): value / sums["count"] for key, value in sums.items() if key != "count"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


class Generated(Task):
    """A task whose sequences are drawn at random, without end.

    **Class attribute.** `one_by_one`: whether the sequences of a split are drawn each from numbers of its own, so that
    no more than a batch of them is in memory; else all at once.
    """

    train_size = None
    one_by_one: ClassVar[bool] = False
    evaluation_size: int

    @abc.abstractmethod
    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        """So many sequences from these random numbers."""

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        seed, step, batch_size = batch_arguments(seed, step, batch_size)
        return self.draw(generator("train", seed, step), batch_size)

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        check_split(split)
        batch_size = at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
        if not self.one_by_one:
            return in_batches(self.draw(generator(split), self.evaluation_size), batch_size)
        return self._one_by_one(split, batch_size)

    def _one_by_one(self, split, batch_size):
        for start in range(0, self.evaluation_size, batch_size):
            numbers = range(start, min(start + batch_size, self.evaluation_size))
            drawn = [self.draw(generator(split, 0, number), 1) for number in numbers]
            parts = zip(*((one.input, one.target, one.weight) for one in drawn), strict=True)
            yield new_sample(*map(np.concatenate, parts))


def at_least(minimum: int, remedy: str, **option: Any) -> int:
    """The one integer passed by name, if it is at least `minimum`; otherwise a `ValueError` that ends with `remedy`."""
    ((name, value),) = option.items()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"`{name}` must be an integer, got {value!r}; {remedy}")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {value}; {remedy}")
    return int(value)


def between(minimum: float, maximum: float, remedy: str, **option: Any) -> float:
    """The one number passed by name, if it lies in the range; otherwise a `ValueError` that ends with `remedy`."""
    ((name, value),) = option.items()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"`{name}` must be a number, got {value!r}; {remedy}")
    if not minimum <= value <= maximum:
        raise ValueError(f"`{name}` must be from {minimum:g} to {maximum:g}, got {value}; {remedy}")
    return float(value)


def true_or_false(**option: Any) -> bool:
    """The one flag passed by name; a `ValueError` if it is not a bool."""
    ((name, value),) = option.items()
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}; pass one of the two")
    return value


def batch_arguments(seed: int, step: int, batch_size: int) -> tuple[int, int, int]:
    """The arguments of `train_batch`, checked."""
    return (
        at_least(0, "choose a seed of 0 or more", seed=seed),
        at_least(0, "count steps from 0", step=step),
        at_least(1, "put at least one sequence in a batch", batch_size=batch_size),
    )


def generator(purpose: Purpose, seed: int = 0, index: int = 0) -> np.random.Generator:
    """Random numbers that are a function of the three arguments, and independent for any two different triples."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PURPOSES[purpose], index)))


def check_split(split: str) -> None:
    """`ValueError` unless `split` names a set to evaluate on."""
    if split not in ("validation", "test"):
        raise ValueError(f"`split` must be 'validation' or 'test', got {split!r}; train_batch gives training examples")


def new_sample(input: Any, target: Any, weight: Any) -> Sample:
    """A `Sample` of NumPy arrays; it takes them as JAX does, whatever its annotations say."""
    return Sample(cast(Any, input), cast(Any, target), cast(Any, weight))


def in_batches(sample: Sample, batch_size: int) -> Iterator[Sample]:
    """A batch cut into smaller ones, in order."""
    batch_size = at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
    for start in range(0, len(sample.weight), batch_size):
        cut = slice(start, start + batch_size)
        yield new_sample(sample.input[cut], sample.target[cut], sample.weight[cut])


def correct_predictions(output: Any, target: Any) -> Bool[np.ndarray, "..."]:
    """`[..., classes]` -> `[...]`: whether the largest logit is that of the right class, and all logits are finite."""
    output = np.asarray(output)
    return np.asarray((output.argmax(axis=-1) == target) & np.isfinite(output).all(axis=-1))


def accuracy_where_asked(output: Any, target: Any, weight: Any) -> dict[str, float]:
    """Sums for the accuracy over all steps that have a loss."""
    asked = np.asarray(weight) > 0
    return {"correct": float(np.sum(correct_predictions(output, target) & asked)), "count": float(asked.sum())}


def accuracy_at_the_end(output: Any, target: Any) -> dict[str, float]:
    """Sums for the accuracy of the last step of each sequence."""
    correct = correct_predictions(np.asarray(output)[..., -1, :], np.asarray(target)[..., -1])
    return {"correct": float(correct.sum()), "count": float(correct.size)}
