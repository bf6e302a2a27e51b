import platform
import resource

import pytest
import torch

from mlptheory.base import memory
from mlptheory.base.memory import keeping_freed_memory

ON_GLIBC = platform.libc_ver()[0] == "glibc"


def _faults_of_large_arrays():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.full((16 * 2**20,), 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not ON_GLIBC, reason="of glibc's allocator")
def test_large_arrays_cost_page_faults_once_within_and_again_after():
    pages = 16 * 2**20 * 4 // resource.getpagesize()
    with keeping_freed_memory():
        _faults_of_large_arrays()
        with keeping_freed_memory():
            assert _faults_of_large_arrays() < pages / 10
        assert _faults_of_large_arrays() < pages / 10
    assert _faults_of_large_arrays() > 3 * pages
    assert memory._holders == 0


def test_an_exception_ends_it_too():
    with pytest.raises(KeyError), keeping_freed_memory():
        raise KeyError
    assert memory._holders == 0


def test_without_glibc_it_does_nothing(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with keeping_freed_memory():
        assert memory._holders == 0
