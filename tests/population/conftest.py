import pytest

pytest.register_assert_rewrite("tests.population.strategy_reference")
