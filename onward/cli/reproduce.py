"""`onward reproduce`: a study from the literature or of our own, from measurement to figure."""

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from onward.cli import session
from onward.cli.config import ReproduceConfig
from onward.cli.errors import StoppedError, UsageError
from onward.cli.options import default_folder, parse
from onward.cli.progress import Screen
from onward.cli.running import clear_failures
from onward.cli.specs import sentence
from onward.reproduce import load
from onward.reproduce.study import run as run_study


def run(words: list[str]) -> int:
    """Measure, and say what was found and where everything is."""
    config = parse(ReproduceConfig, "reproduce", words)
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"--seed must be at least 0 and below 2**32, got {config.seed}.")
    study = load(config.study)
    settings = study.quick if config.quick else study.full
    if config.recurrent_factor is not None:
        settings = _with_factor(config.study, settings, config.recurrent_factor)
    if config.resume and config.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the study to go on with; add it.")
    folder = config.out or default_folder(config.study, datetime.now().strftime("%Y%m%d-%H%M%S"))
    console = Screen(highlight=False, soft_wrap=True)
    session.use_devices(study.batch, None)
    if config.quick:
        session.compile_quickly()
    console.print(f"{study.name}: {study.summary}")
    options = {"quick": config.quick, "seed": config.seed, "resume": config.resume, "settings": settings}
    try:
        with clear_failures(), jax.enable_x64(study.double):
            text = run_study(study, Path(folder), **options, say=console.print)
    except ValueError as error:
        raise UsageError(sentence(error)) from error
    except KeyboardInterrupt:
        raise StoppedError(f"stopped; go on with the same command and --resume --out {folder}") from None
    console.print(f"\n{text}\n\nTable, figures and settings: {folder}")
    return 0


def _with_factor(name: str, settings: Any, factor: float) -> Any:
    """The settings of a study on MNIST98 with another `recurrent_factor`."""
    if not hasattr(getattr(settings, "training", None), "recurrent_factor"):
        raise UsageError(f"--recurrent-factor is for passes and mnist98-table, and not for {name}; leave it out.")
    if not 0 <= factor < math.inf:
        raise UsageError(f"--recurrent-factor must be at least 0, got {factor}.")
    return replace(settings, training=replace(settings.training, recurrent_factor=factor))
