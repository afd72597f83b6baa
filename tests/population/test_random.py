from population.strategies.reference import StrategyReference


class TestRandom(StrategyReference):
    name = "random"
