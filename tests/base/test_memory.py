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

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

with keeping_freed_memory():
    with keeping_freed_memory():
        pass
    within = min(faults() for _ in range(10))
    kept = resident()
print(within, kept - resident(), resource.getpagesize())
"""


@pytest.mark.skipif(not ON_GLIBC, reason="of glibc's allocator")
def test_large_arrays_cost_no_page_faults_while_they_are_kept_and_are_handed_back_after():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    within, handed_back, page = map(int, found.split())
    pages = 4 * 16 * 2**20 // page
    assert within < pages / 10 and handed_back > 0.9 * pages
    assert memory._holders == 0


def test_an_exception_ends_it_too():
    with pytest.raises(KeyError), keeping_freed_memory():
        raise KeyError
    assert memory._holders == 0


def test_without_glibc_it_does_nothing(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with keeping_freed_memory():
        assert memory._holders == 0
