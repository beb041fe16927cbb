"""The pool's own replay, with real training."""

from __future__ import annotations

from chain.artifact import artifact_id
from ponas_node import jobs
from tests.miner.test_real_training import ENCODED, tiny_work


def outcome(job):
    steps = 0
    try:
        while True:
            next(job)
            steps += 1
    except StopIteration as end:
        return end.value, steps


def test_a_replay_runs_no_further_than_the_leaf_in_doubt(tmp_path):
    (tmp_path / artifact_id(ENCODED).hex()).write_bytes(ENCODED)
    work = tiny_work()
    spec, genotype, steps = work.spec.encode(), bytes(15), work.spec.steps
    trained, _ = outcome(jobs.train(spec, genotype, work.seed, str(tmp_path), "cpu"))
    leaves = list(trained["leaves"])
    for count, most in ((1, 1), (2, steps // 2 + 1), (3, steps), (4, steps)):
        found, run = outcome(jobs.replay(spec, genotype, work.seed, count, str(tmp_path), "cpu"))
        assert found == leaves[:count]
        assert run <= most
    models = [(genotype, trained["model"]), (genotype, b"no model"), (genotype, trained["model"])]
    scores = jobs.validate(spec, models, str(tmp_path), "cpu")
    assert scores[0] == scores[2] == trained["correct"]
    assert scores[1] < 0
