"""Abilities of this machine's hardware."""

import pytest

from fitness import hardware


@pytest.mark.parametrize(
    ("visible", "number", "left"), [("", 2, "2"), ("4,5,7", 2, "7"), ("GPU-a,GPU-b", 0, "GPU-a")]
)
def test_one_of_the_gpus_that_are_visible_is_left(
    monkeypatch: pytest.MonkeyPatch, visible: str, number: int, left: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    hardware.use_only(number)
    assert hardware.os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_the_rate_of_a_core_is_by_its_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 8.0, 10.0, 12.0, 20.0, 24.0))  # products of 8, 2 and 4 s
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(clock))
    assert hardware.core_flops.__wrapped__() == hardware.EFFICIENCY * hardware.WIDE**3
