import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.population.strategy_reference")

# A deadline measures how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
