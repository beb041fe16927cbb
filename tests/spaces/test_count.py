"""How many architectures start with a prefix: against enumeration, against the whole, and sampling that follows."""

import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.spaces import SPACES
from consensus.spaces.mlp import MlpV1
from consensus.spaces.stages import StagesV1


class SmallStages(StagesV1):
    """Two blocks, one width, two reductions: 131,072 gene vectors."""

    gene_sizes = (1, 2, *((4, 2, 1, 2) * 3), 2)


class WideStages(StagesV1):
    """One block, two widths, two reductions."""

    gene_sizes = (2, 1, *((4, 1, 2, 2) * 3), 1)


class SmallMlp(MlpV1):
    """Two blocks besides none, two widths: 15,552 gene vectors."""

    gene_sizes = (2, *((3, 2) * 5))


def enumerated(space):
    return sorted({space.canonical(bytes(genes)) for genes in itertools.product(*map(range, space.gene_sizes))})


@pytest.mark.parametrize("space", [SmallStages(), WideStages(), SmallMlp(), SPACES["nb201-v1"]], ids=lambda s: s.name)
def test_every_prefix_of_a_small_space_is_counted_as_enumeration_counts_it(space):
    found = enumerated(space)
    counts = Counter(genotype[:length] for genotype in found for length in range(len(space.gene_sizes) + 1))
    for prefix, count in counts.items():
        assert space.count(prefix) == count, prefix
        assert set(space.children(prefix)) == {
            prefix + bytes([gene]) for gene in range(256) if prefix + bytes([gene]) in counts
        }
    assert [space.at(b"", index) for index in range(0, len(found), 97)] == found[::97]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_whole_and_what_is_no_prefix(name):
    space = SPACES[name]
    assert space.count(b"") == space.distinct_count()
    assert space.count(bytes([space.gene_sizes[0]])) == space.count(bytes(len(space.gene_sizes) + 1)) == 0
    with pytest.raises(IndexError):
        space.at(b"", space.distinct_count())
    with pytest.raises(IndexError):
        space.sample_uniform(b"\xff", random.Random(0))


@settings(deadline=None, print_blob=True, max_examples=150)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 2**32), st.booleans())
def test_children_add_up_and_whole_genotypes_count_once_where_canonical(name, seed, canonical):
    space, rng = SPACES[name], random.Random(seed)
    genes = bytes(rng.randrange(min(size, rng.randint(1, size))) for size in space.gene_sizes)
    if canonical:
        genes = space.canonical(genes)
    for length in range(len(genes)):
        prefix = genes[:length]
        children = space.children(prefix)
        assert sum(children.values()) == space.count(prefix)
        assert all(space.count(child) == count for child, count in children.items())
    assert space.count(genes) == (space.canonical(genes) == genes)


@settings(deadline=None, print_blob=True, max_examples=40)
@given(st.sampled_from(["stages-v1", "mlp-v1"]), st.integers(0, 2**32))
def test_deep_prefixes_agree_with_enumeration(name, seed):
    space, rng = SPACES[name], random.Random(seed)
    length = next(n for n in range(99) if math.prod(space.gene_sizes[n:]) <= 10_000)
    prefix = space.sample(rng)[:length]
    whole = (prefix + bytes(tail) for tail in itertools.product(*map(range, space.gene_sizes[length:])))
    found = [genotype for genotype in whole if space.canonical(genotype) == genotype]
    assert len(found) == space.count(prefix)
    picked = rng.sample(range(len(found)), min(20, len(found)))
    assert [space.at(prefix, index) for index in picked] == [found[index] for index in picked]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_sampling_is_uniform_over_the_architectures_of_a_prefix(name):
    space, rng = SPACES[name], random.Random(3)
    for _ in range(5):
        genotype = space.sample(rng)
        prefix = next(genotype[:n] for n in reversed(range(len(genotype))) if space.count(genotype[:n]) >= 12)
        count = space.count(prefix)
        seen = Counter(space.sample_uniform(prefix, rng) for _ in range(20 * count))
        assert set(seen) <= {space.at(prefix, index) for index in range(count)}
        square = sum((seen[space.at(prefix, index)] - 20) ** 2 / 20 for index in range(count))
        print(name, prefix.hex(), count, square)
        assert square < count + 5 * (2 * count) ** 0.5, "chi square, five sigma"


def test_every_sample_keeps_its_prefix():
    rng = random.Random(11)
    for space in SPACES.values():
        for _ in range(200):
            other = space.sample(rng)
            prefix = other[: rng.randint(0, len(other))]
            genotype = space.sample_uniform(prefix, rng)
            assert genotype.startswith(prefix) and space.canonical(genotype) == genotype
