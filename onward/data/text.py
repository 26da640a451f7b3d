"""Texts as strings of integers: the Penn Treebank as language models read it, and the Brown corpus in its place."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from onward.data.files import folder_of, obtain

Unit = Literal["word", "character"]

# MD5 digests of Mikolov's files (42,068, 3,370 and 3,761 lines), and of Brown's words, a sentence a line.
PTB_FILES = {
    "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
}
BROWN_FILE, BROWN_MD5 = "brown.txt", "c04027bd3b1776c7ddb535550e69359a"
END, UNKNOWN, NUMBER = "<eos>", "<unk>", "N"
BROWN_BLOCK = 100  # sentences; of each ten blocks the ninth is for validation and the tenth for testing
BROWN_WORDS = 10_000


@dataclass(frozen=True)
class Corpus:
    """A text in three parts, each token as its number in the vocabulary; arrays are read-only.

    **Shapes.** `train`, `validation`, `test`: `[tokens]`, int32. `vocabulary`: the token with each number.
    """

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]
    vocabulary: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in (self.train, self.validation, self.test):
            part.flags.writeable = False


def load_ptb(unit: Unit = "word", folder: Path | str | None = None) -> Corpus:
    """The Penn Treebank as Mikolov prepared it: 10,000 words, numbers as N, no capitals or punctuation.

    Lines end with "<eos>", which is one of the 10,000 words; as characters with a line break. As characters the text is
    that of the words, so that "<unk>" is five of them.

    **Arguments.** `unit`: "word" (929,589, 73,760 and 82,430 tokens) or "character". `folder`: holds `ptb.train.txt`,
    `ptb.valid.txt` and `ptb.test.txt`, plain or as `.gz`; `None` means `ptb/` under `data_home()`. The text is under
    the LDC's copyright: nothing is downloaded.
    **Raises.** `FileNotFoundError` if a file is absent, with what to put where; `ValueError` if one is corrupt or the
    unit unknown.
    **Source.** Mikolov, Karafiat, Burget, Cernocky and Khudanpur 2010, "Recurrent neural network based language model".
    """
    folder = folder_of("ptb", folder)
    return _load_ptb(_check(unit), folder)


def load_brown(unit: Unit = "word", folder: Path | str | None = None) -> Corpus:
    """The Brown corpus in the manner of the Penn Treebank, for those who do not have that.

    Words in small letters, those without a letter dropped or, with digits, written N; the 10,000 most frequent of the
    training part are kept ("<eos>" and "<unk>" among them). Parts are made of blocks of 100 sentences, eight of ten for
    training, so that each has all genres.

    **Arguments.** `unit`: "word" or "character", as for `load_ptb`. `folder`: holds `brown.txt`, a sentence of words a
    line, plain or as `.gz`; `None` means `brown/` under `data_home()`.
    **Raises.** As `load_ptb`.
    **Source.** Francis and Kucera 1964, Brown University Standard Corpus of Present-Day American English.
    """
    folder = folder_of("brown", folder)
    return _load_brown(_check(unit), folder)


@lru_cache(maxsize=2)
def _load_ptb(unit: Unit, folder: Path) -> Corpus:
    return _encode([obtain(folder, name, md5, ()).decode().splitlines() for name, md5 in PTB_FILES.items()], unit)


@lru_cache(maxsize=2)
def _load_brown(unit: Unit, folder: Path) -> Corpus:
    return _encode(prepare_brown(obtain(folder, BROWN_FILE, BROWN_MD5, ()).decode().splitlines()), unit)


def prepare_brown(lines: Iterable[str], words: int = BROWN_WORDS) -> list[list[str]]:
    """Lines of the three parts, with small letters, N for numbers and "<unk>" for all but the `words` most frequent."""
    parts: list[list[list[str]]] = [[], [], []]
    for number, line in enumerate(lines):
        kept = [NUMBER if re.search(r"\d", word) else word.lower() for word in line.split() if re.search(r"\w", word)]
        parts[max(0, number // BROWN_BLOCK % 10 - 7)].append(kept)
    counts = Counter(word for line in parts[0] for word in line)
    common = sorted(counts, key=lambda word: (-counts[word], word))
    known = set(common[: words - 2])  # <eos> and <unk> are the other two
    return [[" ".join(word if word in known else UNKNOWN for word in line) for line in part] for part in parts]


def _encode(parts: list[list[str]], unit: Unit) -> Corpus:
    """Numbers in order of first appearance in the training part."""
    if unit == "word":
        tokens = [[word for line in part for word in (*line.split(), END)] for part in parts]
    else:
        tokens = [[letter for line in part for letter in (*" ".join(line.split()), "\n")] for part in parts]
    numbers: dict[str, int] = {}
    for token in tokens[0]:
        numbers.setdefault(token, len(numbers))
    foreign = sorted(set(tokens[1] + tokens[2]) - set(numbers))
    if foreign and unit == "word":
        raise ValueError(f"the training text has no {foreign[0]!r}, which the others have; use the published files")
    for token in foreign:  # a character may be that rare
        numbers[token] = len(numbers)
    train, validation, test = (np.array([numbers[token] for token in part], np.int32) for part in tokens)
    return Corpus(train, validation, test, tuple(numbers))


def _check(unit: str) -> Unit:
    if unit == "word" or unit == "character":
        return unit
    raise ValueError(f"`unit` must be 'word' or 'character', got {unit!r}; choose one of the two")
