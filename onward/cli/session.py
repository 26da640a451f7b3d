"""What every run needs around its training: devices, a folder, a gentle stop, figures about the machine."""

import contextlib
import dataclasses
import fcntl
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from onward.cli import toml
from onward.cli.config import CommonConfig, RunConfig
from onward.cli.errors import UsageError

CONFIG, CHECKPOINT, METRICS, RESULT = "config.toml", "checkpoint.safetensors", "metrics.jsonl", "result.json"
SEQUENCES_PER_DEVICE = 8  # fewer are not worth a device of their own


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_devices(batch_size: int, asked: int | None) -> None:
    """Ask JAX for one virtual CPU device per core, as far as the batch divides by them; before its backend starts.

    What the environment says about devices (JAX_NUM_CPU_DEVICES, XLA_FLAGS) goes first.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if asked is not None and batch_size % asked:
        raise UsageError(f"--devices must divide --batch-size ({batch_size}), got {asked}.")
    most = max(1, min(cores(), batch_size // SEQUENCES_PER_DEVICE))
    count = asked or next(count for count in range(most, 0, -1) if batch_size % count == 0)
    with contextlib.suppress(RuntimeError):  # the backend runs already, since main() was called from Python
        jax.config.update("jax_num_cpu_devices", count)


def compile_quickly() -> None:
    """Spend little on compiling, for runs so short that it is most of their time; before the backend starts."""
    jax.config.update("jax_disable_most_optimizations", True)
    if jax.__version_info__[:2] == (0, 10):  # a flag that XLA does not know would end the process
        # Without optimisation, the classic emitters compile three times faster than the fusion emitters.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()


def open_folder(config: CommonConfig, default: str, finished: str, made: Sequence[str]) -> Path:
    """The run's folder, made and known to be writable; `finished` is the file that a finished run leaves.

    `made` is what else the run writes there, which is not to replace what others have written.
    **Raises.** `UsageError` if it cannot be written, or holds a run already and `--resume` was not asked for.
    """
    folder = config.out or Path("runs") / f"{default}-{datetime.now():%Y%m%d-%H%M%S}"
    if (folder / finished).exists():
        raise UsageError(f"{folder} already holds a finished run; choose another folder with --out, or delete it.")
    resume = isinstance(config, RunConfig) and config.resume
    if not resume and (folder / CONFIG).exists():
        raise UsageError(f"{folder} holds an unfinished run; go on with it with --resume, or choose another --out.")
    if not (folder / CONFIG).exists():
        for name in made:
            if (folder / name).exists():
                raise UsageError(f"{folder} holds another {name}; choose another folder with --out, or move it away.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}); choose another folder with --out.") from None
    return folder


def keep_config(config: CommonConfig, folder: Path) -> None:
    """Write the resolved configuration, from which the run can be repeated or resumed."""
    if isinstance(config, RunConfig):
        config = dataclasses.replace(config, resume=False)  # so that it serves to repeat the run as well
    text = "# The configuration of this run, with all defaults filled in.\n" + toml.dump(config)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def use_one_thread() -> None:
    """Have XLA run on one thread, which is faster where all arrays are small; before its backend starts."""
    os.environ.setdefault("NPROC", "1")


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder while this lasts; the system lets go of it when the process ends.

    **Raises.** `UsageError` if another run is at work there.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"another run is at work in {folder}; wait for it, or choose another folder with --out."
                ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def sole_use_of(file: Path) -> Iterator[None]:
    """Keep other processes from writing this checkpoint; the system lets go of it when the process ends."""
    lock = file.with_name(f".{file.name}.lock")
    try:
        handle = os.open(lock, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}); choose another --checkpoint.") from None
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"another process is at work on {file}; wait for it, or choose another --checkpoint."
                ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def gentle_stop() -> Iterator[None]:
    """Within it SIGTERM does what Ctrl-C does: the step is finished, a checkpoint is written, the command ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def compilation_cache(folder: Path) -> Iterator[None]:
    """Keep what XLA compiles in the run's folder while it lasts: the estimate's step then need not be compiled twice.

    A run that is killed leaves it there, and resumes the faster for it.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is not None:  # the user's own
        yield
        return
    cache = folder / ".compiled"
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(cache), 0.5), strict=True):
        jax.config.update(name, value)
    reset_cache()  # JAX would go on with a folder that it had before
    try:
        yield
        shutil.rmtree(cache, ignore_errors=True)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


def peak_rss() -> int | None:
    """Most memory that this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine() -> str:
    """The machine and the devices in use, for reports."""
    devices = jax.devices()
    kind = "virtual CPU device" if devices[0].platform == "cpu" else devices[0].device_kind
    plural = "s" if len(devices) > 1 else ""
    return f"{platform.system()} {platform.machine()}, {cores()} CPU cores, {len(devices)} {kind}{plural}"
