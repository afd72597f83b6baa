"""Adapters of a bucket against those of PEFT."""

from fitness.buckets.lora import lent
from fitness.evaluation import Task
from fitness.models.base import Base
from tests.fitness.buckets.test_training import (
    assert_as_alone,
    farthest,
    initial,
    members_of,
    named,
)


def test_one_member_is_a_peft_run(base: Base, task: Task) -> None:
    assert_as_alone(base, task, members_of(1))


def test_members_begin_with_the_very_weights_that_peft_draws(base: Base) -> None:
    members = members_of(3)
    with lent(base, members) as bucket:
        begun = [named(bucket.adapter(place)) for place in range(3)]
    for member, weights in zip(members, begun, strict=True):
        expected = initial(base, member)
        assert farthest(weights, expected) == 0.0
    assert any(weight.abs().max() > 0 for weight in begun[0].values())
