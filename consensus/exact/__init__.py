"""Exact training and evaluation of neural networks: integers only, the same on every machine, bit for bit.

`reference` is the definition, in plain int64 arithmetic; everything else is a fast way to the same integers.
"""

from __future__ import annotations

from consensus.exact.device import InexactDevice, pick_device, self_test
from consensus.exact.evaluation import evaluate, logits
from consensus.exact.model import BadModel, Model, content_id, decode_model, quantise
from consensus.exact.recipe import TESTNET_RECIPE, Recipe
from consensus.exact.state import BadState, State, decode_state, initial_state
from consensus.exact.streams import draw_samples
from consensus.exact.training import (
    Candidate,
    Checkpoint,
    Stopped,
    Training,
    run_segment,
    train,
    train_stepwise,
    train_together,
)

__all__ = [
    "TESTNET_RECIPE",
    "BadModel",
    "BadState",
    "Candidate",
    "Checkpoint",
    "InexactDevice",
    "Model",
    "Recipe",
    "State",
    "Stopped",
    "Training",
    "content_id",
    "decode_model",
    "decode_state",
    "draw_samples",
    "evaluate",
    "initial_state",
    "logits",
    "pick_device",
    "quantise",
    "run_segment",
    "self_test",
    "train",
    "train_stepwise",
    "train_together",
]
