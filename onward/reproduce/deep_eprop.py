"""The first experiments on deep e-prop: how good its gradient is in depth and in time, how it learns, what it costs."""

from collections.abc import Sequence
from typing import Any

import optax

from onward.evaluation import evaluate
from onward.reproduce import deep_eprop_report as report
from onward.reproduce.deep_eprop_measures import (
    ALGORITHMS,
    LENGTH,
    Settings,
    agreement,
    build,
    compare,
    follow,
    task_of,
)
from onward.reproduce.study import Row, Study, record

EMPTY = dict.fromkeys(
    ("cosine", "layers", "activity", "microseconds", "memory", "accuracy", "batch_seconds", "distance", "bias"),
    float("nan"),
) | {"layers": "", "curve": ""}


class DeepEProp(Study):
    """Millidge's note has no experiments."""

    name = "deep-eprop"
    summary = "Deep e-prop: does credit through depth and time beat the spatial shortcut, and what does it cost?"
    full = Settings()
    quick = Settings(
        tasks=("copy",),
        cells=("leaky", "ALIF"),
        depths=(1, 2),
        depth=2,
        seeds=1,
        length=10,
        lengths=(),
        fed=("leaky",),
        rates=(1e-3, 1e-2),
        units=8,
        batch_size=8,
        repetitions=1,
        steps=10,
        judged=2,
        evaluated=64,
        runs=1,
    )
    batch = 32

    def points(self, settings: Settings, seed: int) -> Sequence[Row]:
        def point(part, task, depth, length, cell, algorithm, rate=settings.rate, seed=seed):
            length = LENGTH if task == "mnist98" else length
            named = {"part": part, "task": task, "cell": cell, "depth": depth, "T": length, "algorithm": algorithm}
            return named | {"rate": rate, "seed": seed}

        first, *others = settings.tasks
        here = settings.depth, settings.length
        shapes = [(depth, settings.length) for depth in settings.depths]
        shapes += [(settings.depth, length) for length in settings.lengths]
        where = [(first, *shape) for shape in shapes] + [(task, *here) for task in others]
        points = []
        for task, depth, length in where:
            names = ["BPTT", "spatial", *(["traces"] if depth > 1 else [])]
            for cell in settings.cells:
                exact = ["RTRL"] if cell in settings.costed and (task, length) == (first, settings.length) else []
                points += [point("gradient", task, depth, length, cell, name) for name in [*names, *exact]]
                if (depth, length) != here:
                    points += [point("learning", task, depth, length, cell, name) for name in names]
                    continue
                count = settings.seeds if task == first and cell in settings.repeated else 1
                drawn = [(name, seed + i) for i in range(count) for name in [*names, "immediate"]]
                drawn += [(name, seed) for name in ("RTRL", "adaptive") if task == first and cell in settings.fed]
                rates = [settings.rate, *(rate for gentle, rate in settings.gently if gentle == task)]
                points += [
                    point("learning", task, depth, length, cell, name, rate, own)
                    for rate in rates
                    for name, own in drawn
                ]
        return points + [
            point("online", "mnist98", 2, LENGTH, cell, name, rate)
            for cell in settings.followed
            for name in settings.online
            for rate in settings.rates
        ]

    def measure(self, settings: Settings, point: Row, earlier: Sequence[Row]) -> Row:
        part = {"gradient": compare, "online": follow, "learning": self._learn}[point["part"]]
        return {**EMPTY, **part(settings, point)}

    def _learn(self, settings: Settings, point: Row) -> Row:
        """Accuracy on the test set; and how the last network's gradient agrees with BPTT's."""
        task, seed = task_of(point["task"], point["T"], settings), point["seed"]
        network = build(settings, point, seed)
        optimizer = optax.rmsprop if point["algorithm"] == "immediate" else optax.adam
        try:
            trained = self.train(
                network,
                task,
                algorithm=ALGORITHMS[point["algorithm"]],
                optimizer=optax.chain(optax.clip_by_global_norm(1.0), optimizer(point["rate"])),
                steps=settings.steps,
                batch_size=settings.batch_size,
                validate_every=max(1, settings.steps // settings.judged),
                keep_best=False,
                seed=seed,
            )
        except FloatingPointError:
            return {"accuracy": 0.0}
        network = trained.network
        accuracy = evaluate(network, task, "test", min(settings.evaluated, 500))["accuracy"]
        return {"accuracy": accuracy, **agreement(settings, point, [(network, seed)]), **record(trained, "accuracy")}

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        return report.draw(rows)

    def describe(self, rows: Sequence[Row]) -> str:
        return report.describe(rows)
