"""A server that generates for a run: what is refused at the launch, and rounds to their end."""

import json
from pathlib import Path

import pytest

from evo.cli import BAD_INPUT, DONE, main
from tests.evo.facts import read
from tests.evo.rounds import scenario as small
from tests.fitness.inference.serving import vllm


def written(folder: Path, url: str, *changes: tuple[str, str]) -> Path:
    text = small.CHECKED
    lora = ("recipe: {", "recipe: {adapter: lora, lora_rank: 4, ")
    few = ("samples: 200", "samples: 60")
    for old, new in (("quickstart}", f"quickstart, server: '{url}'}}"), lora, few, *changes):
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "search.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("url", "changes", "told"),
    [
        ("gpu:8000", (), "model.server: a server is given as http://host:port/v1"),
        ("http://gpu/v1", (("limit: 2", "limit: 2\n  begin: best"),), "set rounds.begin to base"),
        ("http://127.0.0.1:9/v1", (), "http://127.0.0.1:9/v1/models: no answer in 5 attempts"),
        (
            "http://gpu/v1",
            (("name: checked", "name: checked\nevaluator: {command: [a, '{recipe}']}"),),
            "model.server: only evomix's own trainer generates by a server",
        ),
    ],
)
def test_what_a_server_does_not_go_with_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    changes: tuple[tuple[str, str], ...],
    told: str,
) -> None:
    monkeypatch.setattr("fitness.inference.connection.FIRST_PAUSE", 0)
    spec = written(tmp_path, url, *changes)
    assert main(["launch", str(spec), "--run", str(tmp_path / "run")]) == BAD_INPUT
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore:.*longer than sequence_length")
def test_rounds_and_pools_are_generated_by_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pool = tmp_path / "run", tmp_path / "pool.jsonl"
    with vllm() as served:
        assert main(["launch", str(written(tmp_path, served.url)), "--run", str(run)]) == DONE
        for number in (0, 1):
            made = [f for f in read(run / f"round-{number}") if f.get("split") == "samples"]
            assert {fact["status"] for fact in made} == {"ok"}
            assert {fact["details"]["server"] for fact in made} == {served.url}
        assert served.seen, "an adapter was lent"
        assert served.loaded == {}
        assert "note: model.server: http://127.0.0.1" in capsys.readouterr().err
        few = ["--samples", "3", "--max-new-tokens", "4", "--filters", "length"]
        assert main(["generate", str(run / "round-1"), "--to", str(pool), *few]) == DONE
        assert f"by the server {served.url}" in "".join(capsys.readouterr())
    assert len([json.loads(line) for line in pool.read_text().splitlines()]) == 3
