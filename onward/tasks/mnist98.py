"""The MNIST98 task."""

from collections.abc import Iterator
from typing import Any

from onward.data import load_mnist98
from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Split, Task, accuracy_at_the_end
from onward.tasks.labelled import LabelledSequences, every_step


class MNIST98(Task):
    """Name a handwritten digit read as 98 means of 8 pixels, answering at every step.

    The loss is the mean over all steps of the cross-entropy with the one label; a network made for this task pools its
    outputs with `onward.cells.CumulativeMean`, so that its last output is the mean of all, and accuracy is that of the
    last output. The data are embedded in the package.

    **Shapes.** Input `[98, 1]`, target `[98]`, int32: the label, at every step.
    **Units.** Input in [0, 1]: mean grey level / 255. Weight 1/98 at each step; loss in nats.
    **Arguments.** `validation`: images at the end of the 60,000 for training that are held out (default 5,000). The
    test set is MNIST's 10,000.
    **Source.** The forward-propagation-of-errors post; data: MNIST by Y. LeCun, C. Cortes and C. J. C. Burges.
    """

    name = "mnist98"
    primary = "accuracy"
    higher_is_better = True
    input_size = 1
    output_size = 10
    length = 98
    loss = staticmethod(cross_entropy)

    def __init__(self, *, validation: int = 5000):
        self._data = LabelledSequences(load_mnist98(), validation, every_step(self.length))
        self.train_size = self._data.train_size
        self.options = {"validation": self._data.validation}

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        return self._data.train_batch(seed, step, batch_size)

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        return self._data.evaluation(split, batch_size)

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy of the last output."""
        return accuracy_at_the_end(output, target)
