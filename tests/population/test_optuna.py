import logging
from dataclasses import replace

import numpy as np
import optuna
import pytest

from population.individual import Individual
from population.space import Float, SearchSpace
from population.strategies import check, make
from population.strategies.optuna import SAMPLERS
from population.strategies.reference import (
    ANCHORS,
    POPULATION,
    SPACE,
    StrategyReference,
    score,
    search,
    slot_rng,
)
from tests.population.genomes import losses_of, number


class TestTPE(StrategyReference):
    name = "optuna:tpe"


class TestNSGA2(StrategyReference):
    name = "optuna:nsga2"


class TestNSGA3(StrategyReference):
    name = "optuna:nsga3"


class TestCMAES(StrategyReference):
    name = "optuna:cmaes"
    objectives = 1


class TestRandom(StrategyReference):
    name = "optuna:random"


class TestQMC(StrategyReference):
    name = "optuna:qmc"

    def test_the_same_seed_gives_the_same_search_and_another_seed_another(self):
        """One sequence for all seeds, in whatever order it is asked for."""
        assert self.search(self.build(), 32, seed=1) == self.search(self.build(), 32, seed=2)


@pytest.mark.slow
class TestGP(StrategyReference):
    name = "optuna:gp"
    objectives = 1
    most = 24


SPHERE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0), "z": Float(1e-4, 1e-1, log=True)})


def away(one):
    """Score by the distance from a corner of the space that random search rarely reaches."""
    x, y = one.genome["x"] - 0.05, one.genome["y"] - 0.95
    z = np.log10(one.genome["z"] / 5e-4) / 3
    return replace(one, losses=(float(x**2 + y**2 + z**2),))


@pytest.mark.parametrize(
    ("name", "slots"),
    [("optuna:tpe", 40), ("optuna:cmaes", 60), ("optuna:nsga2", 80), ("optuna:gp", 15)],
)
def test_it_learns_from_what_it_is_told(name, slots):
    """A sampler improves as in Optuna's own loop, and random search does not."""

    def found(name, seed):
        strategy = make(name, SPHERE, population=10, budget=40)
        told = []
        for slot in range(slots):
            told.append(away(strategy.ask(slot, slot_rng(seed, slot))))
            strategy.tell(told[-1])
        return np.mean([one.losses[0] for one in told[-slots // 4 :]])

    seeds = range(1 if name == "optuna:gp" else 4)
    blind = np.mean([found("optuna:random", seed) for seed in range(4)])
    assert np.mean([found(name, seed) for seed in seeds]) < blind / 2


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsga2"])
def test_it_proposes_what_optuna_itself_would(name):
    """A study of Optuna's own, in which the same trials were asked for and told in turn."""
    strategy = make(f"optuna:{name}", SPHERE, population=10, budget=40)
    kind = getattr(optuna.samplers, SAMPLERS[name])
    options = {"population_size": 10} if name == "nsga2" else {}
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        gene: optuna.distributions.FloatDistribution(it.low, it.high, log=it.log)
        for gene, it in SPHERE.genes.items()
        if isinstance(it, Float)
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    repeated = 0
    for slot in range(40):
        seed = int(slot_rng(3, slot).integers(2**31))
        study.sampler = kind(seed=seed, **options)
        trial = study.ask(distributions)
        if any(trial.params == other.params for other in study.trials[:-1]):
            repeated += 1  # it would be evaluated again, which a strategy refuses
            asked = Individual(slot, dict(trial.params))
        else:
            asked = strategy.ask(slot, slot_rng(3, slot))
            assert asked.genome == trial.params
        strategy.tell(asked)
        strategy.tell(away(asked))
        study.tell(trial, away(asked).losses)
    assert repeated < 10


@pytest.mark.parametrize("name", ["tpe", "nsga2", "nsga3", "gp"])
def test_constraints_are_taken_into_account(name):
    """The best loss lies at 0, but is forbidden below 0.5."""
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy = make(f"optuna:{name}", space, population=8, budget=40)
    told = []
    for slot in range(16 if name == "gp" else 60):
        asked = strategy.ask(slot, slot_rng(2, slot))
        x = number(asked.genome, "x")
        told.append(replace(asked, losses=(x,), violation=max(0.0, 0.5 - x)))
        strategy.tell(told[-1])
    late = told[-(len(told) // 3) :]
    assert sum(one.violation == 0 for one in late) >= 0.6 * len(late)
    assert min(losses_of(one)[0] for one in told if one.violation == 0) < 0.56


def test_pending_individuals_change_what_tpe_proposes_next():
    strategy = make("optuna:tpe", SPHERE, population=10, budget=40)
    search(strategy, 24, seed=0, score=away)
    before = [strategy.ask(slot, slot_rng(0, slot)) for slot in range(24, 34)]
    for one in before[:5]:
        strategy.tell(one)
    after = [strategy.ask(slot, slot_rng(0, slot)) for slot in range(29, 34)]
    assert after != before[5:]


def test_cmaes_still_samples_from_its_distribution_after_conditional_genes_come_and_go():
    strategy = make("optuna:cmaes", SPACE, population=POPULATION, budget=40, anchors=ANCHORS)
    told = search(strategy, 80, seed=1, score=lambda one: score(one, objectives=1))[2:]
    assert len({one.genome["adapter"] for one in told}) == 2
    rates = [np.log10(number(one.genome, "learning_rate") / 3e-3) for one in told]
    assert np.std(rates[-20:]) < np.std(rates[:20]) / 1.5


def test_optuna_says_nothing_and_its_verbosity_stays(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    for name in ("tpe", "cmaes", "qmc"):
        strategy = make(f"optuna:{name}", SPACE, population=POPULATION, budget=40)
        search(strategy, 24, seed=0, score=lambda one: score(one, objectives=1))
    assert optuna.logging.get_verbosity() == optuna.logging.INFO == logging.INFO
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_an_unknown_sampler_is_met_with_a_suggestion():
    with pytest.raises(ValueError, match=r"'optuna:cmeas' is unknown; did you mean 'optuna:cmaes'"):
        check("optuna:cmeas", population=8, objectives=1, anchors=0)


def test_cmaes_refuses_several_objectives():
    with pytest.raises(ValueError, match="optuna:cmaes knows one objective, this search has 2"):
        check("optuna:cmaes", population=8, objectives=2, anchors=0)
