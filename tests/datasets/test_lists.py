"""Samples of image keys."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pixelrobust.datasets.lists import sample

KEYS = st.lists(st.text(max_size=8), unique=True, max_size=30)
SIZES = st.integers(0, 40)
SEEDS = st.integers(0, 2**40)


def sampled(keys: list[str], size: int | None, seed: int) -> list[str]:
    return [keys[index] for index in sample(keys, size, seed)]


@settings(deadline=None)
@given(KEYS, SIZES, SEEDS)
def test_a_sample_has_the_size_asked_for_or_everything_and_repeats_itself(keys, size, seed):
    indices = sample(keys, size, seed)
    assert len(indices) == min(size, len(keys))
    assert indices == sorted(set(indices)) == sample(keys, size, seed)
    assert all(0 <= index < len(keys) for index in indices)
    assert sample(keys, None, seed) == list(range(len(keys)))


@settings(deadline=None)
@given(st.data(), KEYS, SIZES, SEEDS)
def test_the_sample_of_a_subset_in_any_order_is_its_share_of_the_sample(data, keys, size, seed):
    chosen = set(sampled(keys, size, seed))
    subset = [key for key in data.draw(st.permutations(keys)) if data.draw(st.booleans())]
    share = [key for key in subset if key in chosen]
    assert sampled(subset, len(share), seed) == share


def test_another_seed_draws_another_sample():
    keys = [f"{number}.jpg" for number in range(1000)]
    first, second = set(sample(keys, 500, 0)), set(sample(keys, 500, 1))
    # Two independent halves of 1000 share 250 ± 8 (one standard deviation).
    assert 200 < len(first & second) < 300
