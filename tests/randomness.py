"""States of the global random generators, which nothing but a test may change."""

import random

import numpy as np


def global_states() -> tuple[object, ...]:
    """States of the generators of Python and NumPy, as values that can be compared."""
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return random.getstate(), state["key"].tolist(), state["pos"]
