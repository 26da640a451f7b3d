"""Tasks to train on: `make(name, **options)`, or a class of this package with its options."""

from onward.tasks.adding import Adding as Adding
from onward.tasks.base import Task as Task
from onward.tasks.copy import Copy as Copy
from onward.tasks.delayed_xor import DelayedXOR as DelayedXOR
from onward.tasks.evidence_accumulation import EvidenceAccumulation as EvidenceAccumulation
from onward.tasks.japanese_vowels import JapaneseVowels as JapaneseVowels
from onward.tasks.mnist98 import MNIST98 as MNIST98
from onward.tasks.pattern_generation import PatternGeneration as PatternGeneration
from onward.tasks.pixels import PermutedFashionMNIST as PermutedFashionMNIST
from onward.tasks.pixels import PermutedMNIST as PermutedMNIST
from onward.tasks.pixels import SequentialCIFAR10 as SequentialCIFAR10
from onward.tasks.pixels import SequentialFashionMNIST as SequentialFashionMNIST
from onward.tasks.pixels import SequentialMNIST as SequentialMNIST
from onward.tasks.registry import TASKS as TASKS
from onward.tasks.registry import make as make
from onward.tasks.store_recall import StoreRecall as StoreRecall

__all__ = [
    "MNIST98",
    "TASKS",
    "Adding",
    "Copy",
    "DelayedXOR",
    "EvidenceAccumulation",
    "JapaneseVowels",
    "PatternGeneration",
    "PermutedFashionMNIST",
    "PermutedMNIST",
    "SequentialCIFAR10",
    "SequentialFashionMNIST",
    "SequentialMNIST",
    "StoreRecall",
    "Task",
    "make",
]
