"""Datasets that come with installed packages: put into the artifact store where the genesis names them."""

from __future__ import annotations

import logging

from chain.artifact import artifact_id
from consensus.genesis import Genesis
from ponas_node.artifacts import ArtifactStore

log = logging.getLogger(__name__)


def provide_built_in(genesis: Genesis, artifacts: ArtifactStore) -> None:
    """Build and store every dataset of the genesis that this installation can build; others come from peers."""
    wanted = {task.spec.dataset for task in genesis.tasks if not artifacts.has(task.spec.dataset)}
    if not wanted:
        return
    from consensus.datasets import BUILTIN, encode_dataset

    for name, build in BUILTIN.items():
        data = encode_dataset(build())
        if artifact_id(data) in wanted:
            artifacts.put(data)
            log.info("built dataset %s", name)
            wanted.discard(artifact_id(data))
        if not wanted:
            break  # the others take seconds to build
