"""Tasks: what is asked, recomputed from what is shown; splits and epochs; batches as functions of seed and step."""

import itertools

import numpy as np
import pytest

from onward.data import LabelledImages, load_mnist98
from onward.losses import cross_entropy, squared_error
from onward.tasks import TASKS, Adding, Copy, DelayedXOR, Task, make, pixels

PIXEL_TASKS = ["smnist", "psmnist", "sfashion", "psfashion", "scifar10"]
SPIKING_TASKS = ["pattern-generation", "evidence-accumulation", "store-recall"]
GENERATED_TASKS = ["copy", "adding", "delayed-xor", *SPIKING_TASKS]
NAMES = ["mnist98", *GENERATED_TASKS, "japanese-vowels", *PIXEL_TASKS]
ORDER = [269, 11, 403, 600, 196, 608]  # where psmnist starts; another order is another task


@pytest.fixture(autouse=True)
def little_mnist(monkeypatch):
    """MNIST's shape with 60 and 20 images, so that no test needs the files; image n starts with pixel n."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (80, 784), np.uint8), random.integers(0, 10, 80, np.uint8)
    images[:, 0] = np.arange(80)
    data = LabelledImages(images[:60].copy(), labels[:60].copy(), images[60:].copy(), labels[60:].copy())
    monkeypatch.setattr(pixels, "load_mnist", lambda: data)
    monkeypatch.setattr(pixels, "load_fashion_mnist", lambda: data)
    colours = random.integers(0, 256, (80, 1024, 3), np.uint8)
    colour_data = LabelledImages(colours[:60].copy(), data.train_labels, colours[60:].copy(), data.test_labels)
    monkeypatch.setattr(pixels, "load_cifar10", lambda: colour_data)
    return data


def task(name, **options):
    if name in PIXEL_TASKS:
        options.setdefault("validation", 7)
    if name in SPIKING_TASKS:
        options.setdefault("neurons", 3)
        options.setdefault("evaluation_size", 9)
    return make(name, **options)


def arrays(sample):
    return [np.asarray(sample.input), np.asarray(sample.target), np.asarray(sample.weight)]


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(arrays(a), arrays(b), strict=True))


# Every task


def test_the_registry_names_every_task_and_summarises_it():
    assert list(TASKS) == [*NAMES, "ptb", "ptb-char", "brown", "brown-char"]  # texts: see test_language.py
    for name, kind in TASKS.items():
        assert issubclass(kind, Task)
        assert kind.name == name
        assert kind.__doc__
        assert kind.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_has_the_declared_form(name):
    made = task(name)
    for sample, size in ((made.train_batch(3, 5, 6), 6), (next(made.evaluation("test", 4)), 4)):
        given, target, weight = arrays(sample)
        assert given.shape == (size, made.length, made.input_size)
        assert weight.shape == (size, made.length)
        assert target.shape == (size, made.length) + ((made.output_size,) if made.loss is squared_error else ())
        assert given.dtype == weight.dtype == np.float32
        assert target.dtype == (np.float32 if made.loss is squared_error else np.int32)
        assert np.isfinite(given).all()
        np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-5)  # the loss is a mean over the steps asked
        losses = [float(made.loss(np.zeros(made.output_size, np.float32), target[0, t])) for t in (0, -1)]
        assert np.isfinite(losses).all()
    assert made.loss in (cross_entropy, squared_error)
    assert (made.train_size is None) == (name in GENERATED_TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_function_of_seed_and_step(name):
    one, other = task(name), task(name)
    other.train_batch(9, 9, 2)  # what was drawn before must not matter
    batch = one.train_batch(3, 11, 5)
    assert same(batch, other.train_batch(3, 11, 5))
    assert same(batch, one.train_batch(3, 11, 5))
    for seed, step in ((4, 11), (3, 12), (11, 3)):
        assert not same(batch, one.train_batch(seed, step, 5))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_sets_are_fixed_whatever_the_batch(name, split):
    generated = name in GENERATED_TASKS
    options = {"evaluation_size": 13} if generated else {"validation": 7}
    made, other = task(name, **options), task(name, **options)
    sizes = {"mnist98": (7, 10_000), "japanese-vowels": (63, 370)}.get(name, (7, 20))
    expected = 13 if generated else sizes[split == "test"]
    other.train_batch(1, 1, 1)
    by_six, by_all = list(made.evaluation(split, 6)), list(other.evaluation(split, expected))
    assert len(by_all) == 1
    assert len(by_six) == -(-expected // 6)
    assert [len(s.weight) for s in by_six] == [6] * (expected // 6) + [expected % 6] * (expected % 6 > 0)
    for parts, whole in zip(zip(*map(arrays, by_six), strict=True), arrays(by_all[0]), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", GENERATED_TASKS)
def test_generated_splits_and_training_share_no_draw(name):
    made = task(name, evaluation_size=8)
    batches = [next(made.evaluation(split, 8)) for split in ("validation", "test")]
    batches += [made.train_batch(seed, step, 8) for seed in range(3) for step in range(3)]
    for a, b in itertools.combinations(batches, 2):
        assert not np.array_equal(a.input, b.input)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_name_themselves_the_value_and_a_remedy(name):
    made = task(name)
    for arguments, message in (
        ((-1, 0, 4), "`seed` must be at least 0, got -1"),
        ((0, -2, 4), "`step` must be at least 0, got -2"),
        ((0, 0, 0), "`batch_size` must be at least 1, got 0"),
        ((0, 0, 2.5), "`batch_size` must be an integer, got 2.5"),
    ):
        with pytest.raises(ValueError, match=rf"{message}; ."):
            made.train_batch(*arguments)
    with pytest.raises(ValueError, match=r"`split` must be 'validation' or 'test', got 'train'; ."):
        made.evaluation("train", 4)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1, got -4; ."):
        next(made.evaluation("test", -4))


@pytest.mark.parametrize(
    ("name", "option", "value", "minimum"),
    [
        ("copy", "length", 0, 1),
        ("copy", "symbols", 1, 2),
        ("copy", "delay", -1, 0),
        ("copy", "evaluation_size", 0, 1),
        ("adding", "length", -200, 2),
        ("adding", "evaluation_size", 0, 1),
        ("delayed-xor", "delay", -3, 0),
        ("delayed-xor", "presentation", 1, 2),
        ("delayed-xor", "evaluation_size", -1, 1),
        ("pattern-generation", "length", 10, 11),
        ("pattern-generation", "outputs", 0, 1),
        ("pattern-generation", "groups", 0, 1),
        ("pattern-generation", "neurons", 0, 1),
        ("pattern-generation", "pattern", -1, 0),
        ("pattern-generation", "evaluation_size", 0, 1),
        ("evidence-accumulation", "cue_length", 0, 1),
        ("evidence-accumulation", "gap", -1, 0),
        ("evidence-accumulation", "delay", -1, 0),
        ("evidence-accumulation", "recall", 0, 1),
        ("evidence-accumulation", "neurons", 0, 1),
        ("evidence-accumulation", "evaluation_size", 0, 1),
        ("store-recall", "symbol", 0, 1),
        ("store-recall", "min_delay", -1, 0),
        ("store-recall", "max_delay", -1, 0),
        ("store-recall", "pairs", 0, 1),
        ("store-recall", "neurons", 0, 1),
        ("store-recall", "evaluation_size", 0, 1),
        ("japanese-vowels", "validation", -5, 0),
        ("mnist98", "validation", -5, 0),
        ("smnist", "validation", -5, 0),
        ("psmnist", "validation", -5, 0),
        ("psfashion", "validation", -5, 0),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_options_name_themselves_the_value_and_a_remedy(name, option, value, minimum):
    with pytest.raises(ValueError, match=rf"`{option}` must be at least {minimum}, got {value}; .+"):
        make(name, **{option: value})
    for wrong in (2.0, "3", True, None):
        with pytest.raises(ValueError, match=rf"`{option}` must be an integer, got .+; .+"):
            make(name, **{option: wrong})
    made = task(name, **{option: np.int64(max(minimum, 2))})
    assert made.options[option] == max(minimum, 2)
    assert type(made.options[option]) is int  # so that a configuration file can hold it


@pytest.mark.usefixtures("unchecked")
def test_other_bad_options():
    with pytest.raises(ValueError, match=r"no task `name`='mnist'; choose one of mnist98, copy, adding, delayed-xor"):
        make("mnist")
    with pytest.raises(ValueError, match=r"task copy has no option `size` \(got 3\); its options are length, symbols"):
        make("copy", size=3)
    with pytest.raises(ValueError, match=r"`every_step` must be True or False, got 1"):
        make("smnist", every_step=1)
    with pytest.raises(ValueError, match=r"`validation` must be at most 59999, got 60000"):
        make("mnist98", validation=60_000)
    with pytest.raises(ValueError, match=r"`split`='validation' is empty.*`validation`=0"):
        make("mnist98", validation=0).evaluation("validation", 4)


def test_options_make_the_same_task_again():
    for name in NAMES:
        made = task(name)
        assert make(name, **made.options).options == made.options
    assert repr(make("adding", length=50)) == "Adding(length=50, evaluation_size=1024)"


# Image tasks


def test_mnist98_shows_the_embedded_images_and_asks_at_every_step():
    made, data = make("mnist98"), load_mnist98()
    assert made.train_size == 55_000
    test = next(made.evaluation("test", 50))
    np.testing.assert_array_equal(np.round(test.input[..., 0] * 255), data.test_images[:50])
    assert test.input.max() <= 1
    np.testing.assert_array_equal(test.target, np.tile(data.test_labels[:50, None], (1, 98)))
    np.testing.assert_array_equal(test.weight, np.full((50, 98), np.float32(1 / 98)))
    held_out = next(made.evaluation("validation", 5000))
    np.testing.assert_array_equal(np.round(held_out.input[..., 0] * 255), data.train_images[55_000:])
    np.testing.assert_array_equal(held_out.target[:, 0], data.train_labels[55_000:])


def test_mnist98_trains_on_the_images_that_are_not_held_out_with_their_labels():
    made, data = make("mnist98", validation=59_000), load_mnist98()
    batch = made.train_batch(0, 0, 1000)
    shown = np.round(batch.input[..., 0] * 255)
    pairs = [
        sorted(map(bytes, np.c_[images, labels].astype(np.uint8)))
        for images, labels in ((shown, batch.target[:, 0]), (data.train_images[:1000], data.train_labels[:1000]))
    ]
    assert pairs[0] == pairs[1]
    assert not np.array_equal(shown, data.train_images[:1000])


@pytest.mark.parametrize("batch_size", [1, 8, 53, 60])
def test_an_epoch_holds_each_example_once_and_epochs_differ(batch_size, little_mnist):
    made = task("smnist")
    size, epochs = 53, 3
    assert made.train_size == size
    steps = -(-size * epochs // batch_size)
    batches = [made.train_batch(2, step, batch_size) for step in range(steps)]
    assert {len(b.weight) for b in batches} == {batch_size}
    first = np.concatenate([np.round(b.input[:, 0, 0] * 255) for b in batches]).astype(int)
    labels = np.concatenate([b.target[:, 0] for b in batches])
    np.testing.assert_array_equal(labels, little_mnist.train_labels[first])
    parts = [first[e * size : (e + 1) * size].tolist() for e in range(epochs)]
    assert all(sorted(part) == list(range(size)) for part in parts)  # and none of the 7 that are held out
    assert parts[0] != parts[1] != parts[2] != parts[0]


def test_splits_are_disjoint(little_mnist):
    made = task("smnist")
    seen = {round(255 * float(x)) for s in range(7) for x in made.train_batch(0, s, 8).input[:, 0, 0]}
    held_out = {round(255 * float(x)) for s in made.evaluation("validation", 4) for x in s.input[:, 0, 0]}
    test = {round(255 * float(x)) for s in made.evaluation("test", 4) for x in s.input[:, 0, 0]}
    assert (seen, held_out, test) == (set(range(53)), set(range(53, 60)), set(range(60, 80)))


@pytest.mark.parametrize("name", PIXEL_TASKS)
def test_pixel_tasks_ask_at_the_end_or_always(name, little_mnist):
    time = 1024 if name == "scifar10" else 784
    for options, weight in (({}, [0] * (time - 1) + [1]), ({"every_step": True}, [1 / time] * time)):
        sample = next(task(name, **options).evaluation("test", 20))
        np.testing.assert_array_equal(sample.weight, np.tile(np.float32(weight), (20, 1)))
        np.testing.assert_array_equal(sample.target, np.tile(little_mnist.test_labels[:, None], (1, time)))


def test_the_permutation_is_fixed_and_undoes_to_the_raster(little_mnist):
    order = pixels.pixel_order()
    assert order[:6].tolist() == ORDER
    assert sorted(order) == list(range(784))
    raster, permuted = (next(task(n).evaluation("test", 20)).input[..., 0] for n in ("smnist", "psmnist"))
    np.testing.assert_array_equal(np.round(raster * 255), little_mnist.test_images)
    undone = np.empty_like(permuted)
    undone[:, order] = permuted
    np.testing.assert_array_equal(undone, raster)
    for step in range(3):
        raster, permuted = (task(n).train_batch(1, step, 8).input[..., 0] for n in ("smnist", "psmnist"))
        np.testing.assert_array_equal(raster[:, order], permuted)


# Generated tasks


@pytest.mark.parametrize(
    "options", [{}, {"length": 3, "symbols": 2, "delay": 0}, {"length": 1, "symbols": 5, "delay": 4}]
)
def test_copy_asks_for_the_symbols_in_order(options):
    made = Copy(**options)
    length, symbols, delay = (made.options[k] for k in ("length", "symbols", "delay"))
    batch = made.train_batch(0, 0, 64)
    shown = batch.input.argmax(axis=-1)
    np.testing.assert_array_equal(batch.input.sum(axis=-1), 1)
    for row, target, weight in zip(shown, batch.target, batch.weight, strict=True):
        string = row[:length].tolist()
        assert set(string) <= set(range(symbols))
        assert row[length:].tolist() == [symbols] * delay + [symbols + 1] + [symbols] * (length - 1)
        assert [int(t) for t, w in zip(target, weight, strict=True) if w > 0] == string
        assert np.flatnonzero(weight).tolist() == list(range(length + delay, 2 * length + delay))
    assert set(shown[:, :length].ravel()) == set(range(symbols))


@pytest.mark.parametrize("length", [2, 3, 7, 200])
def test_adding_asks_for_the_sum_of_one_number_from_each_half(length):
    batch = Adding(length=length).train_batch(0, 0, 500)
    places = set()
    for row, target, weight in zip(batch.input, batch.target, batch.weight, strict=True):
        marked = np.flatnonzero(row[:, 1]).tolist()
        assert len(marked) == 2
        assert marked[0] < length // 2 <= marked[1]
        assert row[marked, 1].tolist() == [1, 1]
        assert target[-1, 0] == pytest.approx(float(row[marked[0], 0]) + float(row[marked[1], 0]), rel=1e-6)
        assert (target == target[-1]).all()
        assert np.flatnonzero(weight).tolist() == [length - 1]
        places |= set(marked)
    assert length > 7 or places == set(range(length))
    assert batch.input[..., 0].min() >= 0
    assert batch.input[..., 0].max() < 1
    assert np.mean((batch.target[:, -1] - 1) ** 2) == pytest.approx(1 / 6, rel=0.2)


@pytest.mark.parametrize(("delay", "presentation"), [(20, 10), (0, 2), (5, 3)])
def test_delayed_xor_asks_whether_the_bits_differ(delay, presentation):
    made = DelayedXOR(delay=delay, presentation=presentation)
    assert made.length == presentation + delay + 1
    batch = made.train_batch(0, 0, 1000)
    kinds, places = set(), set()
    for row, target, weight in zip(batch.input, batch.target, batch.weight, strict=True):
        times = np.flatnonzero(row[:, 0]).tolist()
        bits = [int(row[t, 0] > 0) for t in times]
        assert len(bits) == 2
        assert times[1] < presentation
        assert set(row[times, 0]) <= {-1, 1}
        assert target[-1] == sum(bits) % 2
        assert (target == target[-1]).all()
        assert np.flatnonzero(row[:, 1]).tolist() == np.flatnonzero(weight).tolist() == [made.length - 1]
        kinds.add(tuple(bits))
        places.add(tuple(times))
    assert len(kinds) == 4
    assert places == set(itertools.combinations(range(presentation), 2))
    assert batch.target[:, -1].mean() == pytest.approx(0.5, abs=0.06)


# Metrics


def test_accuracy_is_that_of_the_last_output_where_outputs_are_pooled():
    made = make("mnist98")
    sample = next(made.evaluation("test", 4))
    output = np.zeros((4, 98, 10), np.float32)
    output[np.arange(4), :-1, sample.target[:, 0]] = 9  # right until the last step
    output[:, -1] = -1
    output[[0, 1, 2], -1, sample.target[:3, 0]] = 0.5
    output[3, -1, (sample.target[3, 0] + 1) % 10] = 0.5
    assert made.metrics(output, sample.target, sample.weight) == {"correct": 3.0, "count": 4.0}
    assert made.metrics(output[3], sample.target[3], sample.weight[3]) == {"correct": 0.0, "count": 1.0}
    assert made.summarise({"correct": 3.0, "loss": 2.0, "count": 4.0}) == {"accuracy": 0.75, "loss": 0.5}


def test_an_output_that_is_not_finite_is_never_right():
    made = task("smnist")
    sample = next(made.evaluation("test", 20))
    output = np.full((20, 784, 10), np.nan, np.float32)
    for label in range(10):  # among them the one that argmax finds in NaN
        assert made.metrics(output, np.full_like(sample.target, label), sample.weight) == {
            "correct": 0.0,
            "count": 20.0,
        }


@pytest.mark.parametrize("name", ["copy", "delayed-xor"])
def test_accuracy_counts_the_steps_that_are_asked(name):
    made = make(name)
    sample = made.train_batch(0, 0, 6)
    asked = sample.weight > 0
    output = np.eye(made.output_size)[np.where(asked, sample.target, sample.target ^ 1)]
    count = float(asked.sum())
    assert made.metrics(output, sample.target, sample.weight) == {"correct": count, "count": count}
    row, time = np.argwhere(asked)[0]
    output[row, time] = np.eye(made.output_size)[sample.target[row, time] ^ 1]
    assert made.metrics(output, sample.target, sample.weight) == {"correct": count - 1, "count": count}
    assert made.primary == "accuracy"
    assert made.higher_is_better


def test_adding_measures_the_squared_error_at_the_end():
    made = Adding(length=5)
    sample = made.train_batch(0, 0, 3)
    output = np.full((3, 5, 1), 100.0)
    output[:, -1] = sample.target[:, -1] + np.asarray([[0.5], [0], [-1]])
    sums = made.metrics(output, sample.target, sample.weight)
    assert sums["count"] == 3
    assert sums["squared_error"] == pytest.approx(1.25, rel=1e-6)
    assert made.summarise(sums)[made.primary] == pytest.approx(1.25 / 3)
    assert not made.higher_is_better
