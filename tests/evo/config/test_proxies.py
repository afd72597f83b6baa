"""The key `model.proxies`: its defaults, and what is refused at which line."""

from pathlib import Path

import pytest

from evo.config import from_plain, load, to_plain
from evo.config.resolve import QUICKSTART_FOLDER
from evo.record.spec import recorded
from evo.record.trust import code_in
from tests.evo.config.conftest import edited, errors_of
from tests.evo.config.test_paths import missing

PLAIN = "model: {base: quickstart}"
LARGE = "model:\n  base: ./large\n  proxies:\n    - {base: quickstart}\n"


@pytest.fixture
def proxied(spec: Path) -> Path:
    return edited(spec, f"{PLAIN}\n", LARGE)


def test_a_proxy_is_filled_in_from_the_budget_and_the_model(proxied: Path) -> None:
    [proxy] = load(proxied).model.proxies
    assert proxy.base == str(QUICKSTART_FOLDER / "model")
    assert (proxy.evaluations, proxy.tokens, proxy.dtype) == (7, 100_000, "float32")  # 3 sources, 4
    [proxy] = load(proxied, ["budget.evaluations=41", "model.dtype=bfloat16"]).model.proxies
    assert (proxy.evaluations, proxy.dtype) == (21, "bfloat16")
    given = ["model.proxies.0.evaluations=9", "model.proxies.0.tokens=5000"]
    [proxy] = load(proxied, [*given, "model.proxies.0.dtype=bfloat16"]).model.proxies
    assert (proxy.evaluations, proxy.tokens, proxy.dtype) == (9, 5000, "bfloat16")


def test_proxies_are_recorded_and_read_back(proxied: Path) -> None:
    config = load(proxied)
    assert from_plain(to_plain(config)) == config
    assert recorded(to_plain(config)).model.proxies == config.model.proxies
    assert recorded({"model": {"proxies": ["x", {}]}}).model.proxies[0].base == ""
    assert recorded({"model": {"proxies": "x"}}).model.proxies == ()
    assert load(edited(proxied, "  proxies:\n    - {base: quickstart}\n", "")).model.proxies == ()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("{base: quickstart}", "{bse: quickstart}",
         ":5: model.proxies.0.bse: unknown key; did you mean base?"),
        ("{base: quickstart}", "{base: ''}", ":5: model.proxies.0.base: must not be empty"),
        ("{base: quickstart}", "{}", ":5: model.proxies.0.base: missing; the smaller model"),
        ("{base: quickstart}", "quickstart",
         ":5: model.proxies.0: needs a mapping (key: value), got 'quickstart'"),
        ("\n    - {base: quickstart}", " {base: quickstart}",
         ":4: model.proxies: needs a list, got a mapping"),
        ("quickstart}", "quickstart, evaluations: 0}",
         ":5: model.proxies.0.evaluations: must be at least 1, got 0"),
        ("quickstart}", "quickstart, evaluations: 1}",
         ":5: model.proxies.0.evaluations: 1; the strategy and the baselines need at least 2"),
        ("quickstart}", "quickstart, tokens: 0}",
         ":5: model.proxies.0.tokens: must be at least 1, got 0"),
        ("quickstart}", "quickstart, tokens: 100}",
         ":5: model.proxies.0.tokens: 100 tokens are less than one step of the largest batch,"),
        ("quickstart}", "quickstart, dtype: float64}",
         ":5: model.proxies.0.dtype: must be float32 or bfloat16, got 'float64'; did you mean bfl"),
        ("{base: quickstart}", "{base: ./large}",
         ":5: model.proxies.0.base: ./large is the base model itself; name a smaller model"),
        ("{base: quickstart}", "{base: quickstart}\n    - {base: quickstart}",
         ":6: model.proxies.1.base: quickstart is named twice; name a smaller model"),
        ("genome:\n  mixture: {type: simplex}\n", "  mixture: {jargon: 1}\ngenome:\n",
         ":4: model.proxies: only mixtures transfer from a proxy, and the genome has none of two"),
        ("{type: simplex}", "{type: simplex, over: [jargon]}",
         ":4: model.proxies: only mixtures transfer from a proxy, and the genome has none of two"),
        ("search: {", "search: {strategy: nsga2, ",
         ":4: model.proxies: cannot be combined with search.strategy nsga2, which takes no guides"),
        ("search: {", "rounds: {limit: 2}\nsearch: {",
         ":4: model.proxies: cannot be combined with rounds, whose searches start from one base"),
        ("search: {", "evaluator: {trl: {}}\nsearch: {",
         ":4: model.proxies: cannot be combined with an evaluator of its own"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_at_its_line(
    proxied: Path, old: str, new: str, error: str
) -> None:
    told = errors_of(edited(proxied, old, new))
    assert next(line for line in told if "model.proxies" in line).startswith(error), told


def test_a_proxy_that_does_not_exist_is_told_at_its_line(proxied: Path) -> None:
    edited(proxied, "{base: quickstart}", "{base: ./smal}")
    (proxied.parent / "small").mkdir()
    [error] = [line for line in missing(proxied) if "proxies" in line]
    assert error.startswith(f":5: model.proxies.0.base: {proxied.parent / 'smal'}: there is no")
    assert "did you mean 'small'?" in error


def test_code_and_links_of_a_proxy_are_found(proxied: Path) -> None:
    small = proxied.parent / "small"
    small.mkdir()
    (small / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    (small / "model.safetensors").symlink_to("/etc/passwd")
    edited(proxied, "{base: quickstart}", "{base: ./small}")
    found = [one for one in code_in(to_plain(load(proxied))) if "proxies" in one.where]
    assert {one.where for one in found} == {"model.proxies.0.base"}
    assert len(found) == 2


def test_a_comparison_may_be_left_out(spec: Path) -> None:
    assert load(spec, ["comparison.seeds=0"]).comparison.seeds == 0
    [error] = errors_of(spec, "comparison.seeds=-1")
    assert "comparison.seeds: must be at least 0, got -1" in error
