"""TPE of optuna (`pip install 'ponas-node[bench]'`), as a baseline from outside: a solo miner that asks it."""

from __future__ import annotations

import importlib.util
import random

from bench.search_runs import Outcome, Setting, curve
from pool.subspace import Domain

REPEATS = 20
"""After so many proposals in a row that are known or not admitted, one is drawn at random."""


def available() -> bool:
    """Whether optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def search(setting: Setting, seed: int) -> Outcome:
    """One search with optuna's defaults, a categorical parameter for each gene. Only new trainings count.

    What it proposes again gets the known score, and what the task does not admit is told as failed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domain, table, rng = Domain(setting.table.spec), setting.table, random.Random(seed)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    trained, repeats = dict[bytes, float](), 0
    while len(trained) < min(setting.most, len(table.scores)):
        if repeats == REPEATS:
            drawn = rng.choice([genotype for genotype in table.scores if genotype not in trained])
            study.enqueue_trial({f"gene {place}": gene for place, gene in enumerate(drawn)})
        trial = study.ask()
        choices = enumerate(domain.space.gene_sizes)
        genes = bytes(trial.suggest_categorical(f"gene {place}", list(range(size))) for place, size in choices)
        genotype = domain.space.canonical(genes)
        repeats = repeats + 1 if genotype in trained or domain.cost(genotype) is None else 0
        if domain.cost(genotype) is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        score = trained[genotype] = table.scores[genotype]
        study.tell(trial, score)
        if score >= setting.target:
            break
    return Outcome(len(trained), len(trained), 0, curve(list(trained.values())))
