"""The embedded Japanese Vowels against what is published about them, and the task that is made of them."""

import struct
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import onward as ow
from onward.data import japanese_vowels, load_japanese_vowels
from onward.tasks import make

TEST_COUNTS = [31, 35, 88, 44, 29, 24, 40, 50, 29]  # utterances by speaker, from the data set's own description
FIRST = [1.860936, -0.207383, 0.261557, -0.214562, -0.171253, -0.118167]  # where ae.train starts
FIRST += [-0.277557, 0.025668, 0.126701, -0.306756, -0.213076, 0.088728]
FRAMES = [4274, 5687]  # lines of ae.train and ae.test


# The data


def test_the_data_are_those_that_are_described():
    data = load_japanese_vowels()
    assert load_japanese_vowels() is data
    assert data.train_frames.shape == (270, 29, 12)
    assert data.test_frames.shape == (370, 29, 12)
    assert data.train_frames.dtype == data.test_frames.dtype == np.float32
    assert np.bincount(data.train_speakers).tolist() == [30] * 9
    assert np.bincount(data.test_speakers).tolist() == TEST_COUNTS
    assert [data.train_lengths.sum(), data.test_lengths.sum()] == FRAMES
    lengths = np.concatenate([data.train_lengths, data.test_lengths])
    assert (lengths.min(), lengths.max()) == (7, 29)
    for speakers in (data.train_speakers, data.test_speakers):
        assert (np.diff(speakers.astype(int)) >= 0).all()
    np.testing.assert_array_equal(data.train_frames[0, 0], np.float32(FIRST))
    with pytest.raises(ValueError, match=r"read-only"):
        data.train_frames[0, 0, 0] = 1


def test_frames_are_followed_by_zeros():
    data = load_japanese_vowels()
    for frames, lengths in ((data.train_frames, data.train_lengths), (data.test_frames, data.test_lengths)):
        for utterance, length in zip(frames, lengths, strict=True):
            assert (utterance[:length] != 0).any(axis=1).all()
            assert not utterance[length:].any()
    assert np.abs(data.train_frames).max() == np.float32(2.203141)


def test_the_embedded_file_is_small_and_its_licence_is_beside_it():
    folder = Path(japanese_vowels.__file__).parent
    assert (folder / japanese_vowels.FILE).stat().st_size < 300_000
    text = (folder / "JAPANESE-VOWELS-LICENSE.md").read_text()
    for words in ("Kudo", "Toyama", "Shimbo", "CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "C5NS47"):
        assert words in text


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d[:1000] + bytes([d[1000] ^ 1]) + d[1001:], lambda d: b""]
)
def test_a_changed_embedded_file_is_refused(change):
    data = (Path(japanese_vowels.__file__).parent / japanese_vowels.FILE).read_bytes()
    assert japanese_vowels.verified(data) is data
    with pytest.raises(ValueError, match=r"japanese_vowels\.xz .*SHA-256.*reinstall onward.*make_japanese_vowels"):
        japanese_vowels.verified(change(data))


def test_encoding_is_undone_by_decoding():
    random = np.random.default_rng(0)
    micro = random.integers(-3_000_000, 3_000_000, (1000, 12), dtype=np.int32)
    micro[0, :3] = [-(2**31), 2**31 - 1, -1]
    lengths, speakers = (random.integers(0, 9, 640, np.uint8) for _ in range(2))
    code = japanese_vowels.encode(micro, lengths, speakers)
    for have, want in zip(japanese_vowels.decode(code), (micro, lengths, speakers), strict=True):
        np.testing.assert_array_equal(have, want)
    # The planes of bytes, worked out number by number.
    content = japanese_vowels.lzma.decompress(code)[1280:]
    for place, value in ((0, micro[0, 0]), (1, micro[1, 0]), (1000, micro[0, 1]), (11_999, micro[999, 11])):
        assert bytes(content[plane * 12_000 + place] for plane in range(4)) == struct.pack("<i", value)


# The task


@pytest.mark.parametrize("every_step", [False, True])
def test_each_utterance_is_asked_about_at_its_own_frames(every_step):
    data = load_japanese_vowels()
    sample = next(make("japanese-vowels", every_step=every_step).evaluation("test", 370))
    np.testing.assert_array_equal(sample.input, data.test_frames)
    np.testing.assert_array_equal(sample.target, np.repeat(data.test_speakers[:, None], 29, axis=1))
    for weight, length in zip(sample.weight, data.test_lengths.tolist(), strict=True):
        asked = [1 / length] * length if every_step else [0] * (length - 1) + [1]
        want = np.float32(asked + [0] * (29 - length))
        np.testing.assert_array_equal(weight, want)


def test_the_last_utterances_of_each_speaker_are_held_out():
    data, made = load_japanese_vowels(), make("japanese-vowels")
    assert made.train_size == 225
    held_out = next(made.evaluation("validation", 100))
    assert np.bincount(held_out.target[:, 0]).tolist() == [5] * 9
    np.testing.assert_array_equal(held_out.input, data.train_frames.reshape(9, 30, 29, 12)[:, 25:].reshape(45, 29, 12))
    epoch = made.train_batch(0, 0, 225)
    assert np.bincount(epoch.target[:, 0]).tolist() == [25] * 9
    seen = [{row.tobytes() for row in batch.input} for batch in (epoch, held_out)]
    assert seen[0] | seen[1] == {row.tobytes() for row in data.train_frames}
    assert not seen[0] & seen[1]
    speakers = {row.tobytes(): speaker for row, speaker in zip(data.train_frames, data.train_speakers, strict=True)}
    assert [speakers[row.tobytes()] for row in epoch.input] == epoch.target[:, 0].tolist()


@pytest.mark.usefixtures("unchecked")
def test_bad_options():
    with pytest.raises(ValueError, match=r"`validation` must be at most 29, got 30; leave some to train on"):
        make("japanese-vowels", validation=30)
    with pytest.raises(ValueError, match=r"`every_step` must be True or False, got 1"):
        make("japanese-vowels", every_step=1)
    with pytest.raises(ValueError, match=r"`split`='validation' is empty.*`validation`=0"):
        make("japanese-vowels", validation=0).evaluation("validation", 4)


@pytest.mark.parametrize("every_step", [False, True])
def test_accuracy_is_that_of_the_last_frame(every_step):
    made = make("japanese-vowels", every_step=every_step)
    sample, lengths = next(made.evaluation("test", 370)), load_japanese_vowels().test_lengths
    output = np.eye(9)[(sample.target + 1) % 9]
    rows, last = np.arange(370), lengths.astype(int) - 1
    output[rows, last] = np.eye(9)[sample.target[:, 0]]
    assert made.metrics(output, sample.target, sample.weight) == {"correct": 370.0, "count": 370.0}
    output[4, last[4]] = np.nan
    output[5, last[5]] = np.eye(9)[(sample.target[5, 0] + 1) % 9]
    assert made.metrics(output, sample.target, sample.weight) == {"correct": 368.0, "count": 370.0}
    assert made.metrics(output[5], sample.target[5], sample.weight[5]) == {"correct": 0.0, "count": 1.0}


def test_a_small_network_learns_more_than_chance():
    task = make("japanese-vowels")
    keys = jax.random.split(jax.random.key(0))
    cell = ow.cells.GRU(12, 16, key=keys[0])
    network = ow.stack(cell, readout=eqx.nn.Linear(16, 9, key=keys[1]))
    trained = ow.train(network, task, algorithm=ow.BPTT(), optimizer=optax.adam(1e-2), batch_size=32, steps=60)
    assert ow.evaluate(trained.network, task, "test")["accuracy"] > 0.6  # always naming the third would give 0.24


def test_spikes_learn_it_by_eprop():
    task = make("japanese-vowels")
    network = ow.networks.cell_stack(ow.cells.ALIF, 12, 9, units=16, pooling=True, key=jax.random.key(0))
    network = eqx.tree_at(lambda n: n.nodes["alif_1"].weight_ih, network, 3 * network.nodes["alif_1"].weight_ih)
    trained = ow.train(network, task, algorithm=ow.EProp(), optimizer=optax.adam(1e-2), batch_size=32, steps=60)
    cell, net = trained.network.nodes["alif_1"], trained.network
    states, fired = net.initial_state(), []
    for x in task.train_batch(0, 0, 1).input[0, :10]:
        states, _ = net.step(states, x)
        fired.append(np.asarray(cell.emit(states["alif_1"])))
    assert set(np.unique(fired)) == {0.0, 1.0}
    assert 0.02 < np.mean(fired) < 0.8
    assert ow.evaluate(trained.network, task, "test")["accuracy"] > 0.5
