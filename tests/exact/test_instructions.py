"""Processors differ in their instructions: golden trainings in processes that may use only some of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import torch
torch.set_num_threads(int({threads}))
torch.backends.mkldnn.enabled = {onednn}
from consensus.exact import device, pick_device
from tests.exact.make_vectors import TRAININGS, training
from consensus.datasets import digits
from consensus.exact import Recipe
import json
from tests.exact.make_vectors import FOLDER
pick_device("cpu")
for name, genotype in TRAININGS.items():
    found = training(bytes.fromhex(genotype), digits(), Recipe(16, 32, 2, 640), b"golden", inline=False)
    assert found == json.loads((FOLDER / f"training-{{name}}.json").read_text()), name
"""
SETTINGS = [
    ("DEFAULT", 1, True),
    ("AVX512_CORE", 2, True),
    ("AVX2", 1, True),
    ("SSE41", 1, True),
    ("DEFAULT", 2, False),
    ("AVX2", 2, False),
]


@pytest.mark.parametrize(("instructions", "threads", "onednn"), SETTINGS)
def test_instructions_do_not_matter(instructions, threads, onednn):
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_WAIT_POLICY": "PASSIVE"}
    if instructions in ("AVX2", "SSE41"):  # what torch's own loops and its BLAS may use
        environment |= {"ATEN_CPU_CAPABILITY": "avx2" if instructions == "AVX2" else "default"}
        environment |= {"MKL_ENABLE_INSTRUCTIONS": "AVX2" if instructions == "AVX2" else "SSE4_2"}
    program = PROGRAM.format(threads=threads, onednn=onednn)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
