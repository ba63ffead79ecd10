"""Two processes that average their gradients hold the same weights throughout."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codec_runtime.training.ranks import Ranks, join

PROGRAM = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from training_toys import toy_batches, toy_config, toy_decoders, toy_encoder
from codec_runtime.training.ranks import join, leave
from codec_runtime.training.recipes import train

ranks, device = join("cpu")
# A different start on each rank: process 0's is what counts.
encoder, decoders = toy_encoder(seed=ranks.rank), toy_decoders("attention", "conv")
result = train(
    "anchor", encoder, decoders, toy_batches(), toy_config(), encoder_updates=4, decoder_updates=3,
    ranks=ranks,
)
tensors = {f"encoder.{k}": v.contiguous() for k, v in encoder.state_dict().items()}
tensors |= {f"conv.{k}": v.contiguous() for k, v in decoders["conv"].state_dict().items()}
save_file(tensors, Path(sys.argv[1]) / f"rank{ranks.rank}.safetensors")
leave()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # two interpreters import torch, on a busy machine
def test_two_processes_end_with_the_same_weights(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "PYTHONPATH": f"{here}:{here.parents[1]}", "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=500) for process in processes] == [0, 0]
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_alone_nothing_is_exchanged():
    ranks, device = join("cpu")
    assert (ranks, device.type) == (Ranks(0, 1), "cpu")
    parameter = torch.nn.Parameter(torch.ones(2))
    ranks.average_gradients([parameter])
    assert parameter.grad is None
    assert ranks.agree(0.5, True, device) == (0.5, True)


def test_unknown_devices_are_refused():
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        join("tpu")
