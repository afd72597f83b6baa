from tests.population.strategy_reference import StrategyReference


class TestRandom(StrategyReference):
    name = "random"
