"""All kinds of misbehaviour, by name."""

from __future__ import annotations

from bench.simulation.behaviours import Behaviour
from bench.simulation.byzantine import Censor, Equivocator, Forger, Silent, Spammer, Withholder
from bench.simulation.cheats import Accuser, Copier, Faker, FirstFaker, Grinder, Keeper, ManyFaker

KINDS: dict[str, type[Behaviour]] = {
    "silent": Silent, "censor": Censor, "equivocate": Equivocator, "withhold": Withholder, "forge": Forger,
    "keep": Keeper, "copy": Copier, "grind": Grinder, "spam": Spammer,
    "fake": Faker, "fake-first": FirstFaker, "fake-many": ManyFaker, "accuse": Accuser,
}  # fmt: skip
