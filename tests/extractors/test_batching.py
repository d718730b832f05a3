"""Batches are full, homogeneous and forgiving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.extractors.batching import buckets, is_out_of_memory, run_halving


@given(lengths=st.lists(st.integers(1, 100), max_size=40), max_padded=st.integers(1, 400), equal_only=st.booleans())
def test_every_item_is_in_one_batch_that_fits(lengths, max_padded, equal_only):
    """Each index comes once; no batch exceeds the limit unless it is a single item; unequal lengths stay apart where
    they must."""
    batches = buckets(lengths, max_padded, equal_only=equal_only)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= max_padded
        assert not equal_only or len({lengths[index] for index in batch}) == 1


def test_worked_by_hand():
    """Sorted by length, longest first, filled to ten units with their padding."""
    assert buckets([2, 5, 3, 5, 2], 10) == [[1, 3], [2, 0, 4]]
    assert buckets([2, 5, 3, 5, 2], 10, equal_only=True) == [[1, 3], [2], [0, 4]]


@given(st.integers(1, 40), st.integers(1, 8))
def test_a_batch_that_does_not_fit_is_halved(size, capacity):
    """On a device that takes `capacity` items, every item is computed once, in order."""
    done = []

    def compute(batch):
        if len(batch) > capacity:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        done.extend(batch)

    assert (run_halving([1.0] * size, size, compute) == size) == (size <= capacity)
    assert done == list(range(size))


def test_a_single_item_that_does_not_fit():
    """What cannot be halved is an error that says what to lower."""

    def compute(batch):
        raise MemoryError

    with pytest.raises(MemoryError, match="lower the view's window_s"):
        run_halving([1, 1], 2, compute)


def test_other_errors_pass():
    """Only running out of memory is forgiven."""

    def compute(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_halving([1, 1], 2, compute)
    assert not is_out_of_memory(KeyError("memory"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
