"""The keys under which TensorFlow knows the collectives of a process; their calls are tried by test_replicas."""

from runner.estimator.replicas.collectives import _GATHER_KEY_BITS, _SMALL_BYTES, _capacity, _length_key


def test_every_length_that_is_gathered_has_a_key_of_its_own() -> None:
    capacities = {_capacity(int(1.01**exponent)) for exponent in range(2300)}  # up to some GiB
    lengths = capacities | set(range(1, _SMALL_BYTES // 2 + 1))

    keys = {_length_key(length) for length in lengths}

    assert len(keys) == len(lengths)
    assert max(keys) < 1 << _GATHER_KEY_BITS


def test_what_is_gathered_is_padded_by_less_than_a_quarter() -> None:
    assert all(n_words <= _capacity(n_words) <= 1.25 * n_words for n_words in range(1, 10_000))
    assert len({_capacity(n_words) for n_words in range(1, 10_000)}) < 50
