"""Fine-tunes that an earlier search or a smaller model saves: `make bench NAME=transfer`, an hour.

Real fine-tunes of the quickstart's model, half as long as its own. In turns, a seed each: a search
from nothing, and the same `--from` an earlier one of other held-out text, of one source less, or of
half the tokens; then a model of twice the weights, alone and with the quickstart's as its proxy.
Quality is the test loss of the best by the selection split; the count is of fine-tunes spent, an
expert as its share. `--keep FOLDER` keeps the runs, and goes on with what is there.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evo.history.overlay import Array
from tests.benchmarks import peers
from tests.benchmarks.comparison import mean_error
from tests.benchmarks.launches import finished
from tests.benchmarks.time_to_quality import UNSEEN, with_unseen
from tests.evo.proxies.scenario import grown

COLD, LARGE = "from nothing", "larger, from nothing"
# Second searches, and the first that each takes over.
EARLIER = {
    "half the target": "half",
    "another target": "other",
    "one source less": "fewer",
    "half the tokens": "short",
}
PROXIED = "larger, with a proxy"
NEW = "devil"  # the source that `fewer` lacks: the best partner of the target's own


def spec(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    asked = peers.spec(options.evaluations, options.tokens, seed)
    return {**asked, "domains": with_unseen(asked["domains"]), "comparison": {"seeds": 0}}


def firsts(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, dict[str, Any]]:
    """The earlier searches; their seeds are others than the later ones'."""
    asked = spec(options, 100 + seed)
    texts = {name: peers.held_out(name)["selection"]["path"] for name in ("jargon", "general")}
    half = folder / "half.jsonl"
    lines = [Path(text).read_text().splitlines() for text in texts.values()]
    half.write_text("".join(f"{line}\n" for text in lines for line in text[: len(text) // 2]))
    targets = {"half": str(half), "other": texts["general"]}
    found = {}
    for name, path in targets.items():
        target = {"selection": {"path": path}, "test": asked["domains"]["target"]["test"]}
        found[name] = {**asked, "domains": {**asked["domains"], "target": target}}
    sources = {name: one for name, one in asked["sources"].items() if name != NEW}
    found["fewer"] = {**asked, "sources": sources}
    found["short"] = {**asked, "budget": {**asked["budget"], "tokens": options.tokens // 2}}
    return found


def searched(run: Path, asked: Mapping[str, Any], *more: object) -> Path:
    """A run of a spec that is given as a mapping, searched or resumed to its end."""
    file = run.with_suffix(".yaml")
    file.write_text(json.dumps(asked))
    return finished(run, file, more=more)


def quality(run: Path, evaluations: int) -> Array:
    """Test loss of the best by selection once so many fine-tunes were spent: (evaluations,)."""
    done = [fact for fact in peers.finetunes(run) if fact["status"] == "ok"]
    spent = np.cumsum([fact["fidelity"] for fact in done])
    whole = [
        (spent[place], fact["measurements"][peers.OBJECTIVE], fact["measurements"][UNSEEN])
        for place, fact in enumerate(done)
        if fact["fidelity"] == 1
    ]
    curve = []
    for count in range(1, evaluations + 1):
        by_then = [(loss, unseen) for at, loss, unseen in whole if at <= count]
        curve.append(min(by_then)[1] if by_then else np.inf)
    return np.array(curve)


def table(names: Sequence[str], curves: Mapping[str, list[Array]], after: Sequence[int]) -> Any:
    """Prints a line a search, beside the first of `names`; returns the figures."""
    figures: dict[str, Any] = {}
    alone = curves[names[0]]
    print(f"{'':22}" + "".join(f"{f'after {count}':>16}" for count in after) + "  as good after")
    for name in names:
        cells = [mean_error([one[count - 1] for one in curves[name]]) for count in after]
        counts = [
            int(np.argmax(one <= cold[-1])) + 1 if (one <= cold[-1]).any() else len(one) + 1
            for one, cold in zip(curves[name], alone, strict=True)
        ]
        shown = "".join(f"{mean:>8.4f} ± {error:.4f}"[:17].rjust(16) for mean, error in cells)
        print(f"{name:22}{shown}  {statistics.median(counts):g} {counts}", flush=True)
        figures[name] = {"quality": dict(zip(after, cells, strict=True)), "as good after": counts}
    return figures


def main() -> None:
    options = _options()
    small: dict[str, list[Array]] = {}
    large: dict[str, list[Array]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / "larger"
        if not (model / "config.json").exists():
            grown(model)
        count = options.evaluations
        for seed in range(options.seeds):
            asked = spec(options, seed)
            cold = searched(folder / f"cold-{seed}", asked)
            small.setdefault(COLD, []).append(quality(cold, count))
            earlier = firsts(options, seed, folder)
            for name, first in EARLIER.items():
                source = searched(folder / f"{first}-{seed}", earlier[first])
                run = searched(folder / f"from-{first}-{seed}", asked, "--from", source)
                small.setdefault(name, []).append(quality(run, count))
            proxied = {"base": str(model), "proxies": [{"base": "quickstart"}]}
            for name, base in ((LARGE, {"base": str(model)}), (PROXIED, proxied)):
                run = searched(
                    folder / f"{name[8:].replace(' ', '-')}-{seed}", {**asked, "model": base}
                )
                large.setdefault(name, []).append(quality(run, count))
            print(f"seed {seed} is done", flush=True)
        after = [count // 4, count // 2, count]
        figures = {
            **table([COLD, *EARLIER], small, after),
            **table([LARGE, PROXIED], large, after),
        }
    print("BENCH " + json.dumps({"name": "transfer", "seeds": options.seeds, "searches": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=transfer", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="searches of each (default 5)")
    parser.add_argument("--evaluations", type=int, default=16, help="of each (default 16)")
    parser.add_argument("--tokens", type=int, default=61_440, help="of a fine-tune")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs, or go on")
    return parser.parse_args()


if __name__ == "__main__":
    main()
