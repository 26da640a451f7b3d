"""Studies that anyone can repeat: one command each, which writes a table, figures, a short text and its settings."""

import importlib

STUDIES = {
    "gradient-quality": "onward.reproduce.gradient_quality.GradientQuality",
    "precision": "onward.reproduce.precision.Precision",
    "complexity": "onward.reproduce.complexity.Complexity",
    "iterative-bptt": "onward.reproduce.iterative_bptt.IterativeBPTT",
    "deep-eprop": "onward.reproduce.deep_eprop.DeepEProp",
    "passes": "onward.reproduce.mnist98.Passes",
    "mnist98-table": "onward.reproduce.mnist98.Mnist98Table",
    "adding": "onward.reproduce.adding.AddingStudy",
    "adding-k": "onward.reproduce.adding.AddingWindows",
    "smnist": "onward.reproduce.images.SequentialImages",
    "psmnist": "onward.reproduce.images.PermutedImages",
    "architectures": "onward.reproduce.images.Architectures",
    "fptt-online": "onward.reproduce.images.OnlineFPTT",
    "ptb300": "onward.reproduce.language.PTB300",
    "alpha": "onward.reproduce.language.Alpha",
    "streams": "onward.reproduce.streams.Streams",
    "auxiliary-loss": "onward.reproduce.images.AuxiliaryLoss",
}


def load(name: str):
    """The study called `name`; its module is only imported here."""
    module, kind = STUDIES[name].rsplit(".", 1)
    return getattr(importlib.import_module(module), kind)()
