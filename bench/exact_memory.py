"""`python -m bench.exact_memory exact|float GENOTYPE BATCH`: growth of the process's peak memory by training, in MB."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import torch

from bench.exact import mnist_14
from bench.exact_float import FloatRun
from bench.machine import memory
from consensus.exact import Recipe, initial_state, run_segment
from consensus.spaces import get_space


def main() -> None:
    """Print the growth. A first step of a small network loads what both need."""
    kind, genotype, batch = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dataset, space = mnist_14(), get_space("stages-v1")
    before = 0
    for genes, size, steps in ((bytes(15), 2, 1), (genotype, batch, 3)):
        graph = space.decode(genes, dataset.shape)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory("VmRSS")
        if kind == "float":
            FloatRun(graph, dataset, steps, size, 0).train()
        else:
            recipe = Recipe(steps, size, 1)
            run_segment(graph, dataset, recipe, b"memory", initial_state(graph, b"memory"), 0)
    print((memory("VmHWM") - before) / 2**20)


if __name__ == "__main__":
    main()
