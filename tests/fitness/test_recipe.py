from fitness.recipe import Recipe, idle


def test_fields_that_decide_nothing_are_told_apart() -> None:
    plain = Recipe(adapter="lora", method="preference").model_dump()
    beginnings = {name.split("_")[0] for name in idle(plain)}
    assert beginnings == {"reinforce", "rewards", "merge"}
    assert idle({**plain, "task": "causal"}) - idle(plain) == {"mask_share", "class_weights"}
    everything = Recipe(adapter="dora", method="reinforce", start="merge").model_dump()
    assert {name.split("_")[0] for name in idle(everything)} == {"preference"}
    assert idle({"lora_rank": 3, "depth": 2}) == set(), "of an evaluator of one's own"


def test_the_second_moment_counts_wherever_adam_trains() -> None:
    counts = {
        name: "beta2" not in idle({**Recipe().model_dump(), "optimizer": name})
        for name in ("adamw", "adamw_8bit", "muon", "adafactor")
    }
    assert counts == {"adamw": True, "adamw_8bit": True, "muon": True, "adafactor": False}
