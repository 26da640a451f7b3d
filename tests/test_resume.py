"""A run that is killed at any moment and resumed ends with the same bits as one that was not.

Run as a script, this file is the process that gets killed.
"""

import functools
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

STEPS = 60


def arguments(name):
    """Network and arguments of `train` for each kind of run; every run is the same one."""
    import equinox as eqx
    import jax
    import optax

    import onward as ow

    keys = jax.random.split(jax.random.key(5), 3)

    def jitter(updates, key, params=None):
        key, now = jax.random.split(key)
        return jax.tree.map(lambda leaf: leaf * jax.random.uniform(now), updates), key

    common = {"steps": STEPS, "batch_size": 4, "seed": 3, "checkpoint_every": 7, "validate_every": 10}
    if name == "offline":
        task = ow.tasks.Copy(length=2, symbols=3, delay=2, evaluation_size=8)
        cell, size = ow.cells.RNN(task.input_size, 8, key=keys[0]), 8
        more = {"algorithm": ow.BPTT(), "patience": 50}
    else:
        task = ow.tasks.DelayedXOR(delay=1, presentation=3, evaluation_size=8)
        cell, size = ow.cells.LRU(task.input_size, 5, key=keys[0]), 10
        more = {"algorithm": ow.SnAp(), "window": 1, "stateful": True}
    network = ow.stack(cell, eqx.nn.LayerNorm(size), readout=eqx.nn.Linear(size, task.output_size, key=keys[1]))
    rate = optax.cosine_decay_schedule(1e-2, STEPS)
    optimizer = optax.chain(
        ow.optimizers.adamw(network, rate, recurrent_factor=0.5, clip=1.0),
        optax.GradientTransformation(lambda parameters: keys[2], jitter),
    )
    return (network, task), common | more | {"optimizer": optimizer}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(where, count, directory):
    """Make this process kill itself at a chosen moment; returns a callback for events."""
    from onward import checkpoint

    left = [count]

    def now():
        left[0] -= 1
        return left[0] == 0

    class HalfWritten:
        def __init__(self, *args):
            self.file = open(*args)  # noqa: SIM115

        def __enter__(self):
            return self

        def write(self, data):
            if now():
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                die()
            self.file.write(data)

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    def replace(source, target, original=os.replace):
        ours = str(target).endswith(".safetensors")
        if ours and where == "before-rename" and now():
            die()
        original(source, target)
        if ours and where == "after-rename" and now():
            die()

    def on_event(event):
        if where == "after-event" and now():
            die()
        if where == "half-a-line" and now():
            with open(directory / "metrics.jsonl", "a") as file:
                file.write('{"event": "train", "step": 10')
            die()

    if where == "half-written":
        checkpoint.open = HalfWritten
    os.replace = replace
    return on_event


def take_time(sign, event):
    """Let the parent, which waits for `sign`, strike before the run is over."""
    sign.touch()
    time.sleep(0.01 if event["step"] < STEPS / 2 else 600)


def child(directory, name, where, count):
    import jax

    jax.config.update("jax_compilation_cache_dir", str(directory.parent / f"compiled-{name}"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    import onward as ow

    positional, keywords = arguments(name)
    on_event = arrange(where, count, directory)
    if where == "any-time":
        on_event = functools.partial(take_time, directory / "training")
    files = {"checkpoint": directory / "run.safetensors", "log": directory / "metrics.jsonl"}
    trained = ow.train(*positional, **keywords, **files, resume=True, on_event=on_event)
    assert trained.stopped == "finished"


def start(directory, name, where="never", count=0):
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "error", __file__, str(directory), name, where, str(count)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process, code):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors


def outcome(directory):
    """Everything a run leaves behind that must not depend on whether it was killed."""
    from onward.checkpoint import _read
    from onward.metrics import read_events

    header, arrays = _read(directory / "run.safetensors")
    progress = {key: value for key, value in header["progress"].items() if key != "seconds"}
    events = [
        {key: value for key, value in event.items() if not key.startswith("seconds")}
        for event in read_events(directory / "metrics.jsonl")
        if event["event"] != "resume"
    ]
    return {name: array.tobytes() for name, array in arrays.items()}, progress, events


def killed_again_and_again(folder, name, moments):
    """One run without a kill, and one that is killed at each of `moments` and resumed in between."""
    finish(start(folder / f"{name}-whole", name), 0)
    directory = folder / f"{name}-killed"
    seen = []
    for where, count in moments:
        process = start(directory, name, where, count)
        if where == "any-time":
            while not (directory / "training").exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(count)
            process.kill()
        finish(process, -signal.SIGKILL)
        seen.append(len((directory / "metrics.jsonl").read_text().splitlines()))
    finish(start(directory, name), 0)
    return outcome(folder / f"{name}-whole"), outcome(directory), seen


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(tmp_path):
    draw = random.Random()  # another moment each time; the bits must never depend on it
    moments = {
        "offline": [("half-written", 2), ("any-time", draw.uniform(0, 0.3)), ("half-a-line", 14)],
        # At the first checkpoint there is nothing to resume from yet.
        "online": [("before-rename", 1), ("after-rename", 3), ("any-time", draw.uniform(0, 0.3))],
    }
    with ThreadPoolExecutor() as pool:
        runs = {name: pool.submit(killed_again_and_again, tmp_path, name, kills) for name, kills in moments.items()}
        for name, run in runs.items():
            (arrays, progress, events), (arrays_killed, progress_killed, events_killed), seen = run.result()
            assert any(key.startswith("carry") for key in arrays) == (name == "online")
            assert {key.split(".")[0] for key in arrays} >= {"parameters", "optimizer", "key", "best"}
            assert arrays == arrays_killed, (moments, seen)
            assert progress == progress_killed, (moments, seen)
            assert events == events_killed, (moments, seen)
            train = [event["step"] for event in events if event["event"] == "train"]
            assert train == list(range(1, STEPS + 1))
            assert not list((tmp_path / f"{name}-killed").glob(".*")), "nothing temporary stays behind"


if __name__ == "__main__":
    child(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
