"""Settings of every test."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("population.strategies.reference")

# A test runs beside others: more threads than one each would wait for one another. It is read when
# NumPy and torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A deadline measures how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
