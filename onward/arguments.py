"""The arguments of `onward.train`, checked before anything is computed."""

from collections.abc import Mapping
from typing import Any

import optax

from onward.algorithms import Algorithm
from onward.intermediate import IntermediateLosses
from onward.network import Network
from onward.tasks.base import Task, at_least


def check_arguments(task: Task | None, given: Mapping[str, Any]) -> None:
    """One clear sentence about the first argument of `train` that makes no sense, or does not go with another."""
    kinds = {"network": Network, "algorithm": Algorithm, "optimizer": optax.GradientTransformation}
    for name, kind in kinds.items():
        if not isinstance(given[name], kind):
            raise TypeError(f"`{name}` must be of type {kind.__name__}, got {given[name]!r}")
    at_least(0, "choose a seed of 0 or more", seed=given["seed"])
    at_least(1, "put at least one sequence in a batch", batch_size=given["batch_size"])
    remedy = "give a number of steps, or None"
    for name in ("steps", "window", "validate_every", "checkpoint_every", "patience", "align_every"):
        if given[name] is not None:
            at_least(1, remedy, **{name: given[name]})
    count = given["windows_per_sequence"]
    if count is not None and count != "sqrt":
        at_least(1, 'give a number of windows, "sqrt" or None', windows_per_sequence=count)
    if not isinstance(given["stateful"], bool) and given["stateful"] not in (None, "epoch"):
        raise ValueError(f'`stateful` must be True, False, "epoch" or None, got {given["stateful"]!r}')
    if given["stateful"] == "epoch" and (task is None or task.train_size is None):
        raise ValueError('`stateful` is "epoch", but the source has no epochs of known length; give True')
    if given["intermediate"] is not None and not isinstance(given["intermediate"], IntermediateLosses):
        raise TypeError(f"`intermediate` must be of type IntermediateLosses, got {given['intermediate']!r}")
    if given["validation"] is not None and iter(given["validation"]) is given["validation"]:
        raise TypeError("`validation` is an iterator, which can be read only once; give a list of batches")
    steps, epochs = given["steps"], given["epochs"]
    endless = task is not None and task.train_size is None
    for wrong, sentence in (
        (steps and epochs, f"give `steps` or `epochs`, not both, got {steps} and {epochs}"),
        (task and not steps and epochs is None, "`steps` and `epochs` are both None; say how long to train"),
        (epochs is not None and not epochs > 0, f"`epochs` must be above 0, got {epochs!r}"),
        (endless and epochs, f"`epochs` is {epochs}, but this task is generated without end; give `steps`"),
        (not task and epochs and epochs != int(epochs), f"`epochs` of an iterable must be whole, got {epochs}"),
        (
            given["window"] and count,
            f"give `window` or `windows_per_sequence`, not both, got {given['window']} and {count}",
        ),
        (given["loss"] is None, "`loss` is None and `source` is no task; give loss(output, target) -> scalar"),
        (
            given["validate_every"] and not task and given["validation"] is None,
            f"`validate_every` is {given['validate_every']}, but there is nothing to validate on; give `validation`",
        ),
        (given["patience"] and not given["validate_every"], "`patience` counts validations; give `validate_every`"),
        (given["resume"] and not given["checkpoint"], "`resume` is True without a `checkpoint`; give its path"),
    ):
        if wrong:
            raise ValueError(sentence)
