"""Data sets: the embedded MNIST98, Japanese Vowels and electricity, and loaders of files, with digests."""

from onward.data.cifar10 import load_cifar10 as load_cifar10
from onward.data.files import data_home as data_home
from onward.data.idx import read_idx as read_idx
from onward.data.images import LabelledImages as LabelledImages
from onward.data.japanese_vowels import Utterances as Utterances
from onward.data.japanese_vowels import load_japanese_vowels as load_japanese_vowels
from onward.data.mnist import load_fashion_mnist as load_fashion_mnist
from onward.data.mnist import load_mnist as load_mnist
from onward.data.mnist98 import load_mnist98 as load_mnist98
from onward.data.series import CALENDAR as CALENDAR
from onward.data.series import Series as Series
from onward.data.series import calendar as calendar
from onward.data.series import load_series as load_series
from onward.data.text import Corpus as Corpus
from onward.data.text import load_brown as load_brown
from onward.data.text import load_ptb as load_ptb

__all__ = [
    "CALENDAR",
    "Corpus",
    "LabelledImages",
    "Series",
    "Utterances",
    "calendar",
    "data_home",
    "load_brown",
    "load_cifar10",
    "load_fashion_mnist",
    "load_japanese_vowels",
    "load_mnist",
    "load_mnist98",
    "load_ptb",
    "load_series",
    "read_idx",
]
