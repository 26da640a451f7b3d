"""Texts: what is made of small ones written here, and the published counts where the files are."""

import hashlib

import numpy as np
import pytest

from onward.data import data_home, load_brown, load_ptb, text

LINES = {"train": " the cat sat \n the <unk> sat N \n", "valid": " the cat \n", "test": " sat N \n"}


@pytest.fixture
def little(tmp_path, monkeypatch):
    """Files in the published form in place of the published ones."""
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path))
    digests = {f"ptb.{part}.txt": hashlib.md5(lines.encode()).hexdigest() for part, lines in LINES.items()}
    monkeypatch.setattr(text, "PTB_FILES", digests)
    text._load_ptb.cache_clear()
    yield tmp_path / "ptb"
    text._load_ptb.cache_clear()


def put(folder):
    folder.mkdir()
    for part, lines in LINES.items():
        (folder / f"ptb.{part}.txt").write_text(lines)


def back(corpus, part):
    return [corpus.vocabulary[token] for token in getattr(corpus, part)]


def test_words_and_ends_of_lines(little):
    with pytest.raises(FileNotFoundError, match=r"ptb\.train\.txt is not in .*ptb"):
        load_ptb()
    put(little)
    corpus = load_ptb()
    assert back(corpus, "train") == ["the", "cat", "sat", "<eos>", "the", "<unk>", "sat", "N", "<eos>"]
    assert back(corpus, "validation") == ["the", "cat", "<eos>"]
    assert back(corpus, "test") == ["sat", "N", "<eos>"]
    assert corpus.vocabulary == ("the", "cat", "sat", "<eos>", "<unk>", "N")
    assert corpus.train.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 1


def test_characters(little):
    put(little)
    corpus = load_ptb("character")
    assert "".join(back(corpus, "train")) == "the cat sat\nthe <unk> sat N\n"
    assert "".join(back(corpus, "test")) == "sat N\n"
    assert len(corpus.vocabulary) == len(set("the cat sat\nthe <unk> sat N\n"))


def test_a_word_that_training_lacks_and_an_unknown_unit_are_refused(little, monkeypatch, unchecked):
    put(little)
    (little / "ptb.test.txt").write_text(" dog \n")
    with pytest.raises(ValueError, match="is corrupt or another file"):
        load_ptb()
    monkeypatch.setitem(text.PTB_FILES, "ptb.test.txt", hashlib.md5(b" dog \n").hexdigest())
    with pytest.raises(ValueError, match="the training text has no 'dog'"):
        load_ptb()
    with pytest.raises(ValueError, match="`unit` must be 'word' or 'character', got 'letter'"):
        load_ptb("letter")


def test_brown_is_cut_into_blocks_and_keeps_frequent_words():
    lines = [f"Word{'' if n % 7 else 's'} , in 1961 the RARE{n} ." for n in range(1000)]
    lines = [line.replace(f"RARE{n}", "Rare" if n == 5 else "the") for n, line in enumerate(lines)]
    train, validation, test = text.prepare_brown(lines, words=6)
    assert [len(part) for part in (train, validation, test)] == [800, 100, 100]
    assert train[1] == "word in N the the"  # four words are kept beside <eos> and <unk>
    assert train[0] == "<unk> in N the the"
    assert train[5] == "word in N the <unk>"
    assert validation[0] == text.prepare_brown(lines[800:801] * 801, 6)[0][0]


@pytest.mark.parametrize(
    ("load", "unit", "tokens", "words"),
    [
        (load_ptb, "word", (929_589, 73_760, 82_430), 10_000),
        (load_ptb, "character", None, 50),
        (load_brown, "word", None, 10_000),
    ],
)
def test_published_texts(load, unit, tokens, words):
    folder = data_home() / load.__name__.removeprefix("load_")
    if not folder.exists():
        pytest.skip(f"the published text is not on this machine (no {folder})")
    corpus = load(unit)
    assert len(corpus.vocabulary) == words
    if tokens:
        assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == tokens
    for part in (corpus.train, corpus.validation, corpus.test):
        assert 0 <= part.min() <= part.max() < words
    if load is load_brown:
        assert 0.05 < np.mean(corpus.train == corpus.vocabulary.index("the")) < 0.09
