from hypothesis import given
from hypothesis import strategies as st

from evo.schedule import Breed, Learn, generational


@given(evaluations=st.integers(1, 200), population=st.integers(1, 50))
def test_every_slot_is_bred_once_and_learned_from_once_after(
    evaluations: int, population: int
) -> None:
    steps = list(generational(evaluations, population))
    bred = [step.slot for step in steps if isinstance(step, Breed)]
    learned = [step.slot for step in steps if isinstance(step, Learn)]
    assert bred == learned == list(range(evaluations))
    for slot in range(evaluations):
        generation = slot // population
        place = steps.index(Breed(slot, generation))
        before = {step.slot for step in steps[:place] if isinstance(step, Learn)}
        assert before == set(range(generation * population))
