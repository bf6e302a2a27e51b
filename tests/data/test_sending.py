import numpy as np
import pytest
import torch

from mlptheory.data.sending import sent


def test_on_the_cpu_the_memory_is_shared():
    values = np.arange(6)
    found = sent(values, torch.device("cpu"))
    values[0] = 7
    assert found.tolist() == [7, 1, 2, 3, 4, 5]
    tensor = torch.ones(2)
    assert sent(tensor, torch.device("cpu")) is tensor


@pytest.mark.cuda
@pytest.mark.parametrize("values", [np.arange(12).reshape(3, 4)[:, 1:3], torch.zeros(0), torch.eye(3).bool()])
def test_what_arrives_on_cuda_is_what_was_sent(values):
    device = torch.device("cuda")
    torch.cuda.synchronize()
    found = [sent(values, device) for _ in range(100)]
    assert all(torch.equal(each.cpu(), torch.as_tensor(values)) for each in found)
