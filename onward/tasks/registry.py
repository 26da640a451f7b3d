"""Names of tasks, as the command line and configuration files write them."""

import inspect
from typing import Any

from onward.tasks.adding import Adding
from onward.tasks.base import Task
from onward.tasks.copy import Copy
from onward.tasks.delayed_xor import DelayedXOR
from onward.tasks.evidence_accumulation import EvidenceAccumulation
from onward.tasks.japanese_vowels import JapaneseVowels
from onward.tasks.language import PTB, Brown, BrownCharacters, PTBCharacters
from onward.tasks.mnist98 import MNIST98
from onward.tasks.pattern_generation import PatternGeneration
from onward.tasks.pixels import (
    PermutedFashionMNIST,
    PermutedMNIST,
    SequentialCIFAR10,
    SequentialFashionMNIST,
    SequentialMNIST,
)
from onward.tasks.store_recall import StoreRecall

_CLASSES = (
    MNIST98,
    Copy,
    Adding,
    DelayedXOR,
    PatternGeneration,
    EvidenceAccumulation,
    StoreRecall,
    JapaneseVowels,
    SequentialMNIST,
    PermutedMNIST,
    SequentialFashionMNIST,
    PermutedFashionMNIST,
    SequentialCIFAR10,
    PTB,
    PTBCharacters,
    Brown,
    BrownCharacters,
)
TASKS: dict[str, type[Task]] = {task.name: task for task in _CLASSES}


def make(name: str, **options: Any) -> Task:
    """The task called `name`, with `options` as its class takes them.

    **Raises.** `ValueError` if there is no such task (it lists those there are), if the task has no such option, or if
    an option's value makes no sense.
    **Example.**

        >>> make("copy", length=3, delay=5)
        Copy(length=3, symbols=8, delay=5, evaluation_size=1024)
    """
    if name not in TASKS:
        raise ValueError(f"make: there is no task `name`={name!r}; choose one of {', '.join(TASKS)}")
    known = list(inspect.signature(TASKS[name]).parameters)
    for option, value in options.items():
        if option not in known:
            raise ValueError(
                f"make: task {name} has no option `{option}` (got {value!r}); its options are {', '.join(known)}"
            )
    return TASKS[name](**options)
