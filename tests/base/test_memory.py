import platform
import subprocess
import sys

import pytest

from mlptheory.base import memory
from mlptheory.base.memory import keeping_freed_memory

ON_GLIBC = platform.libc_ver()[0] == "glibc"

# In a process of its own: what a heap has gone through decides which gaps it has.
FAULTS = """
import resource
import torch
from mlptheory.base.memory import keeping_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.full((16 * 2**20,), 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with keeping_freed_memory():
    with keeping_freed_memory():
        pass
    within = min(faults() for _ in range(10))
print(within, min(faults() for _ in range(3)), resource.getpagesize())
"""


@pytest.mark.skipif(not ON_GLIBC, reason="of glibc's allocator")
def test_large_arrays_cost_page_faults_until_they_are_kept_and_again_after():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    within, after, page = map(int, found.split())
    pages = 4 * 16 * 2**20 // page
    assert within < pages / 10 and after > 3 * pages
    assert memory._holders == 0


def test_an_exception_ends_it_too():
    with pytest.raises(KeyError), keeping_freed_memory():
        raise KeyError
    assert memory._holders == 0


def test_without_glibc_it_does_nothing(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with keeping_freed_memory():
        assert memory._holders == 0
