"""A search with trackers beside one without: `make bench NAME=tracking`, a quarter of an hour.

The quickstart, in pairs whose order alternates: seconds of the command from its start to its end,
and of what it waits for the trackers after the last fact. MLflow writes to a database on the same
disk, TensorBoard to the run folder. Alone on the machine.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import fmean

from tests.evo.driving import evo
from tests.evo.facts import read

TRACKED = "track={mlflow: {uri: 'sqlite:///FOLDER/mlflow.db'}, tensorboard: {}}"


def launched(folder: Path, name: str, *settings: str) -> tuple[float, float]:
    """Seconds of a launch, and of them those after the last fact."""
    run, began = folder / name, time.time()
    line = [word for one in settings for word in ("--set", one)]
    done = evo("launch", "quickstart", "--run", run, *line, cwd=folder)
    ended = time.time()
    if done.returncode or "warning: track" in done.stderr:
        raise SystemExit(done.stderr)
    return ended - began, ended - float(read(run)[-1].get("time") or 0.0)


def main() -> None:
    options = _options()
    found: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trackers = TRACKED.replace("FOLDER", str(folder))
        for pair in range(options.pairs):
            for name in sorted(found, reverse=pair % 2 == 0):
                settings = [*options.set, *([trackers] if name == "with" else [])]
                found[name].append(launched(folder, f"{name}-{pair}", *settings))
                print(f"{name}: {found[name][-1][0]:.1f} s", flush=True)
    seconds = {name: fmean(whole for whole, _ in rows) for name, rows in found.items()}
    after = {name: fmean(rest for _, rest in rows) for name, rows in found.items()}
    share = seconds["with"] / seconds["without"] - 1
    waits = (after["with"] - after["without"]) / seconds["without"]
    print(f"with trackers {share:+.1%}, of which waiting at the end {waits:.1%}")
    figures = {"seconds": seconds, "after": after, "share": share, "waiting": waits}
    print("BENCH " + json.dumps({"name": "tracking", "pairs": options.pairs, "figures": figures}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench NAME=tracking", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2, help="(default 2)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of both")
    return parser.parse_args()


if __name__ == "__main__":
    main()
