"""Texts to be continued: the next word or character, with the state carried from batch to batch."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from onward.data.text import Corpus, Unit, load_brown, load_ptb
from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Split, Task, at_least, batch_arguments, check_split, new_sample


class LanguageModel(Task):
    """Name the next token of a text at every step: what the tasks of this module have in common.

    A training batch goes on where the last one ended: the text is cut into as many streams as the batch has sequences,
    and each batch is the next `length` tokens of all of them, so that states may live on (`stateful`) until the
    epoch ends, when all streams are back at their start. What is left over at their ends is not trained on.

    **Shapes.** T = `length` steps. Input `[T]` and target `[T]`, int32: this token and the next. Output: logits.
    **Units.** Weight 1/T at each step: the loss is the mean per token, in nats.
    **Metrics.** Of all tokens of a split but the first: of words "perplexity", e to the mean loss; of characters
    "bits_per_character", the mean loss by log 2.
    **Arguments.** `length`: steps in a sequence. `streams`: how many pieces a split is cut into for evaluation,
    whatever the batch size that is asked for; each is read from the initial state on, so that few are a fairer judge
    and many a faster one.
    **Raises.** `FileNotFoundError` or `ValueError` if the text is not there: see `load_ptb` and `load_brown` of
    `onward.data`.
    """

    higher_is_better = False
    stateful = True
    judged_by = "loss"
    loss = staticmethod(cross_entropy)
    unit: ClassVar[Unit] = "word"

    def __init__(self, *, length: int = 70, streams: int = 10):
        self.length = at_least(1, "give a sequence at least one step", length=length)
        self.streams = at_least(1, "1 reads a split as one piece", streams=streams)
        self._corpus = self.corpus()
        self.input_size = self.output_size = len(self._corpus.vocabulary)
        self.train_size = (len(self._corpus.train) - 1) // self.length
        if not self.train_size:
            raise ValueError(f"`length` must be below the text's {len(self._corpus.train)} tokens, got {length}")
        self.options = {"length": self.length, "streams": self.streams}

    def corpus(self) -> Corpus:
        """The text."""
        return load_ptb(self.unit)

    def batches(self, batch_size: int) -> int:
        return max(1, (len(self._corpus.train) - 1) // batch_size // self.length)

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        _, step, batch_size = batch_arguments(seed, step, batch_size)
        each = (len(self._corpus.train) - 1) // batch_size
        if each < self.length:
            raise ValueError(
                f"`batch_size` is {batch_size}, but the text has only {self.train_size} sequences of {self.length} "
                "tokens; choose fewer"
            )
        start = np.arange(batch_size)[:, None] * each + step % self.batches(batch_size) * self.length
        index = start + np.arange(self.length)
        weight = np.full(index.shape, 1 / self.length, np.float32)
        return new_sample(self._corpus.train[index], self._corpus.train[index + 1], weight)

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        check_split(split)
        at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
        return self._evaluation(getattr(self._corpus, split), self.streams)

    def _evaluation(self, text, count):
        each = -(-(len(text) - 1) // count)
        for start in range(0, each, self.length):
            within = start + np.arange(self.length)
            index = np.arange(count)[:, None] * each + within
            counts = (within < each) & (index < len(text) - 1)
            index = np.where(counts, index, 0)
            weight = np.where(counts, 1 / self.length, 0).astype(np.float32)
            yield new_sample(text[index], text[index + 1], weight)

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        asked = np.asarray(weight) > 0
        return {"nats": float(np.sum(np.asarray(output, np.float64)[asked])), "count": float(asked.sum())}

    def summarise(self, sums):
        mean = sums["nats"] / sums["count"]
        if self.unit == "word":
            return {"perplexity": float(np.exp(min(mean, 700.0)))}  # beyond that it is no number
        return {"bits_per_character": float(mean / np.log(2))}


class PTB(LanguageModel):
    """The Penn Treebank word by word, with `length=300` the PTB-300 of Kag and Saligrama; see `LanguageModel`.

    **Source.** Mikolov et al. 2010; Kag and Saligrama 2021, section 4.
    """

    name = "ptb"
    primary = "perplexity"


class PTBCharacters(LanguageModel):
    """The Penn Treebank character by character; see `LanguageModel`.

    **Source.** Mikolov et al. 2012; Kag and Saligrama 2021, section 4.
    """

    name = "ptb-char"
    primary = "bits_per_character"
    unit = "character"

    def __init__(self, *, length: int = 150, streams: int = 10):
        super().__init__(length=length, streams=streams)


class Brown(PTB):
    """The Brown corpus word by word, for those who do not have the Penn Treebank; see `LanguageModel`.

    **Source.** Francis and Kucera 1964; prepared by `onward.data.load_brown`.
    """

    name = "brown"

    def corpus(self) -> Corpus:
        return load_brown(self.unit)


class BrownCharacters(PTBCharacters):
    """The Brown corpus character by character; see `LanguageModel`.

    **Source.** Francis and Kucera 1964; prepared by `onward.data.load_brown`.
    """

    name = "brown-char"

    def corpus(self) -> Corpus:
        return load_brown(self.unit)
