"""Every check says which sections it reads: one that were left out may be broken already."""

from pathlib import Path
from typing import Any

import pytest

from evo import config as configuration
from evo.config import SearchConfig
from evo.config.checks import CHECKS, LATER_CHECKS
from tests.evo.config.conftest import errors_of, written

QUICKSTART = Path(configuration.__file__).parent.parent / "quickstart" / "search.yaml"
ROUNDS = Path(configuration.__file__).parents[2] / "runs" / "self_improvement.yaml"


class Watched:
    """A config that notes which of its sections are read."""

    def __init__(self, config: SearchConfig) -> None:
        self._config, self.read = config, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.read.add("evaluator" if name == "form" else name)
        return getattr(self._config, name)


@pytest.mark.parametrize("path", [QUICKSTART, ROUNDS], ids=["quickstart", "rounds"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"evaluator": {"trl": {}}},
        {"evaluator": {"command": ["true"]}},
        {"budget": {"patience": 2}, "search": {"rungs": (0.5,), "bucket": 2}},
        {"resources": {"processes": 2}, "model": {"task": "masked", "quantisation": "nf4"}},
        {"resources": {"processes": 2, "sharding": "full"}},
        {"recipe": {"start": "parent", "infill_share": 0.5, "method": "dpo"}},
        {"aggregates": {"quality": {"mean": ["*/loss"], "relative_to": "base"}}},
    ],
    ids=str,
)
def test_no_check_reads_a_section_that_it_does_not_declare(
    path: Path, change: dict[str, Any]
) -> None:
    plain = configuration.to_plain(configuration.load(path))
    for section, values in change.items():
        plain[section] = {**plain[section], **values} if section != "evaluator" else values
    config = SearchConfig.model_validate(plain)
    for sections, examine in (*CHECKS, *LATER_CHECKS):
        watched = Watched(config)
        list(examine(watched))  # type: ignore[arg-type]
        assert watched.read <= set(sections.split()), examine.__name__


def test_a_key_given_twice_is_one_error_in_a_spec_of_rounds(spec: Path) -> None:
    rounds = "rounds: {writing: {infill: 0.5, samples: 10}}\n"
    text = spec.read_text().replace("recipe:", "recipe:\n  infill_share: 0.5\n  infill_share: 0.5")
    written(spec, text + rounds)
    assert [line for line in errors_of(spec) if "infill" in line] == [
        line for line in errors_of(spec) if "given twice" in line
    ]
    assert len([line for line in errors_of(spec) if "given twice" in line]) == 1
