"""The state of a run, as every command tells it."""

from pathlib import Path

import pytest

from evo import history
from evo.history import rounds
from evo.record.state import State, state
from tests.evo.synthetic_ledger import ledger


@pytest.mark.parametrize(
    ("ends", "left", "killed"),
    [
        ((), "running", "stopped"),
        (("stopped",), "stopped", "stopped"),
        (("stopped", "resumed"), "running", "stopped"),
        (("waiting",), "waiting", "waiting"),
        (("finished", "resumed"), "running", "stopped"),
        (("finished", "a_later_kind"), "finished", "finished"),
    ],
)
def test_status_of_searches_and_rounds_and_the_state_agree(
    ends: tuple[str, ...], left: State, killed: State, tmp_path: Path
) -> None:
    facts = ledger(evaluations=4, population=4, seeds=1)[:-1]
    facts[0]["config"]["rounds"] = {"limit": 2}
    facts += [{"fact": kind, "time": 2e9, "judgements": 3} for kind in ends]
    for alive, wanted in ((True, left), (False, killed)):
        assert state(facts, alive=alive) == wanted
        assert history.status(facts, alive=alive)["state"] == wanted
        assert rounds.status(tmp_path, facts, alive=alive)["state"] == wanted
