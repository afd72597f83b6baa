import pytest

pytest.register_assert_rewrite("population.strategies.reference")
