"""Mirroring: what is copied and when, what a fetch takes for whole, and a store that is down."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evo.record import lease
from evo.record.lease import STALE_SECONDS, Lease
from evo.record.ledger import Ledger, in_use
from evo.storage import fetch as fetching
from evo.storage import following, mirror
from evo.storage.following import mirrored
from evo.storage.mirror import Mirror
from fitness.errors import InputError
from fitness.remote.folders import COMPLETE
from fitness.remote.store import Store, Unavailable, open_store
from tests.evo.facts import read

pytestmark = pytest.mark.usefixtures("soon")
HEAD = {"config": {}, "fingerprints": {}, "time": 0.0}
LEDGER = "ledger.jsonl"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SECONDS", 0.01)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "run", HEAD) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, ledger: Ledger) -> Path:
    return tmp_path / "run"


def checkpoint(run: Path, number: int, content: bytes = b"weights") -> Path:
    folder = run / "artifacts" / f"individual-{number}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    return folder


def there(base: Path) -> set[str]:
    found = (path for path in (base / "run").rglob("*") if path.is_file())
    return {path.relative_to(base / "run").as_posix() for path in found} - {lease.FILE}


def following_of(run: Path, base: Path) -> Mirror:
    return Mirror(run, open_store(base.as_uri()).below("run"), Lease.own())


class Told:
    """Messages, and a wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in one for one in self.lines), 60)


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, method: str, fails: Callable[[str], bool]
) -> Iterator[None]:
    """Within the context, a method of the store raises for objects whose names are chosen."""
    works = getattr(Store, method)

    def refused(store: Store, name: str, *rest: object) -> object:
        if fails(name):
            raise Unavailable(f"{store.url}: cannot be reached")
        return works(store, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Store, method, refused)
        yield


def test_a_mirror_has_ledger_spec_and_weights_under_their_own_names_and_nothing_else(
    run: Path, base: Path, ledger: Ledger
) -> None:
    (run / "config.yaml").write_text("name: a\n")
    checkpoint(run, 3)
    (run / "artifacts" / "state-4-0.safetensors").write_bytes(b"state")
    for left_out in ("report.html", "logs/1.log", "x.partial", "artifacts/retrained-1/config.json"):
        (run / left_out).parent.mkdir(exist_ok=True, parents=True)
        (run / left_out).write_text("not mirrored")
    (run / "link").symlink_to("/etc/passwd")
    with mirrored(base.as_uri(), run, pytest.fail):
        ledger.append("stopped", time=1.0)
    weights = {
        f"artifacts/individual-3/{n}" for n in ("config.json", "model.safetensors", COMPLETE)
    }
    assert there(base) == {LEDGER, "config.yaml", "artifacts/state-4-0.safetensors", *weights}
    assert (base / "run" / LEDGER).read_bytes() == (run / LEDGER).read_bytes()
    assert not (base / "run" / lease.FILE).exists()


def test_a_fetched_run_is_the_run(tmp_path: Path, run: Path, base: Path, ledger: Ledger) -> None:
    checkpoint(run, 3)
    (run / "round-1").mkdir()
    Ledger.create(run / "round-1", HEAD).close()
    (run / "round-1" / "pool.jsonl").write_text("{}\n")
    following_of(run, base).copy()
    folder, overrides = fetching.resumable((base / "run").as_uri(), tmp_path / "b" / "run", ["x=1"])
    assert overrides == [f'mirror="{base.as_uri()}"', "x=1"]
    for name in (LEDGER, "round-1/ledger.jsonl", "round-1/pool.jsonl"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    names = {path.name for path in (folder / "artifacts" / "individual-3").iterdir()}
    assert names == {"config.json", "model.safetensors"}


def test_a_long_ledger_is_sent_in_parts_and_only_the_last_one_again(
    tmp_path: Path, run: Path, base: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PART_BYTES", 500)
    following = following_of(run, base)
    sent: list[str] = []
    write = Store.write

    def noted(store: Store, name: str, content: bytes) -> None:
        sent.append(name)
        write(store, name, content)

    monkeypatch.setattr(Store, "write", noted)
    for turn in range(40):
        ledger.append("stopped", time=float(turn))
        following.copy()
    assert sorted(set(sent)) == [LEDGER, *(f"{LEDGER}.{n:04}" for n in range(1, len(set(sent))))]
    assert len(set(sent)) > 2
    assert sent == sorted(sent)
    fetching.fetch(open_store((base / "run").as_uri()), tmp_path / "copy", to_resume=True)
    assert (tmp_path / "copy" / LEDGER).read_bytes() == (run / LEDGER).read_bytes()


def test_half_a_line_is_not_mirrored(run: Path, base: Path, ledger: Ledger) -> None:
    whole = (run / LEDGER).read_bytes()
    with (run / LEDGER).open("ab") as file:
        file.write(b'{"fact":"stopp')
    following_of(run, base).copy()
    assert (base / "run" / LEDGER).read_bytes() == whole


@pytest.mark.parametrize("torn", ["config.json", "model.safetensors", COMPLETE])
def test_a_half_sent_checkpoint_is_not_taken_for_a_whole_one_and_the_next_pass_mends_it(
    tmp_path: Path, run: Path, base: Path, torn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(run, 3)
    following, url = following_of(run, base), (base / "run").as_uri()
    method = "write" if torn == COMPLETE else "upload"
    with (
        failing(monkeypatch, method, lambda name: name.endswith(torn)),
        pytest.raises(Unavailable),
    ):
        following.copy()
    first, _ = fetching.resumable(url, tmp_path / "a" / "run", [])
    assert not (first / "artifacts").exists()
    following.copy()
    second, _ = fetching.resumable(url, tmp_path / "b" / "run", [])
    assert (second / "artifacts" / "individual-3" / "model.safetensors").read_bytes() == b"weights"


def test_an_object_cut_short_makes_its_checkpoint_incomplete(
    tmp_path: Path, run: Path, base: Path
) -> None:
    checkpoint(run, 3)
    following_of(run, base).copy()
    (base / "run" / "artifacts" / "individual-3" / "model.safetensors").write_bytes(b"wei")
    folder, _ = fetching.resumable((base / "run").as_uri(), tmp_path / "b" / "run", [])
    assert not (folder / "artifacts").exists()


def test_weights_are_deleted_there_after_the_ledger_that_made_them_needless(
    run: Path, base: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(run, 3)
    following = following_of(run, base)
    following.copy()
    ledger.append("stopped", time=1.0)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with (
        failing(monkeypatch, "write", lambda name: name == LEDGER),
        pytest.raises(Unavailable),
    ):
        following.copy()
    assert any("individual-3" in name for name in there(base))
    following.copy()
    assert there(base) == {LEDGER}


def test_a_run_folder_that_was_removed_is_not_removed_from_the_mirror(
    run: Path, base: Path
) -> None:
    checkpoint(run, 3)
    following = following_of(run, base)
    following.copy()
    before = there(base)
    (run / LEDGER).rename(run.parent / "elsewhere")
    (run / "artifacts").rename(run.parent / "gone")
    following.copy()
    assert there(base) == before


def test_a_mirror_that_goes_down_is_told_once_and_catches_up_when_it_is_back(
    run: Path, base: Path, ledger: Ledger
) -> None:
    told = Told()
    with mirrored(base.as_uri(), run, told):
        base.rename(base.with_name("unmounted"))
        for turn in range(3):
            ledger.append("stopped", time=float(turn))
        told.wait_for("the search continues")
        base.with_name("unmounted").rename(base)
        told.wait_for("is back, and has everything again")
    assert len(told.lines) == 2
    assert (base / "run" / LEDGER).read_bytes() == (run / LEDGER).read_bytes()


def test_a_mirror_that_is_down_at_the_end_is_told_with_the_command_that_catches_up(
    run: Path, base: Path, ledger: Ledger
) -> None:
    told = Told()
    with mirrored(base.as_uri(), run, told):
        base.rename(base.with_name("unmounted"))
        ledger.append("stopped", time=1.0)
    assert f"`evo resume {run}` copies the rest" in told.lines[-1]
    base.with_name("unmounted").rename(base)
    with mirrored(base.as_uri(), run, pytest.fail):
        pass
    assert (base / "run" / LEDGER).read_bytes() == (run / LEDGER).read_bytes()


def test_a_slow_mirror_is_waited_for_at_the_end_but_not_for_ever(
    run: Path, base: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SAID_SECONDS", 0.01)
    monkeypatch.setattr(following, "END_SECONDS", 0.01)
    checkpoint(run, 3)
    told, enough, upload = Told(), threading.Event(), Store.upload

    def slow(store: Store, name: str, file: Path) -> None:
        assert enough.wait(60)
        upload(store, name, file)

    monkeypatch.setattr(Store, "upload", slow)
    with mirrored(base.as_uri(), run, told):
        pass
    assert told.lines[0].startswith("copying the rest to file:")
    assert f"is behind; `evo resume {run}` copies the rest" in told.lines[1]
    enough.set()
    for thread in threading.enumerate():
        if thread.name == "mirror":
            thread.join(60)
    assert "artifacts/individual-3/model.safetensors" in there(base)


def test_two_machines_do_not_write_to_one_mirror_and_an_old_lease_is_taken_over(
    run: Path, base: Path, ledger: Ledger
) -> None:
    (base / "run").mkdir()
    other = Lease.own().model_copy(update={"host": "elsewhere", "pid": 7})
    for age, refused in ((0.0, True), (STALE_SECONDS + 1, False)):
        old = other.model_copy(update={"time": other.time - age})
        (base / "run" / lease.FILE).write_text(old.model_dump_json())
        if refused:
            with (
                pytest.raises(InputError, match=r"written by process 7 on elsewhere: stop that"),
                mirrored(base.as_uri(), run, pytest.fail),
            ):
                pass
    with mirrored(base.as_uri(), run, pytest.fail):
        pass
    assert there(base) == {LEDGER}


def test_a_driver_whose_lease_was_taken_says_so_and_writes_no_more(
    run: Path, base: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    following_of(run, base).copy()  # the first pass may come later than what follows
    with mirrored(base.as_uri(), run, told):
        other = Lease.own().model_copy(update={"host": "elsewhere", "pid": 7})
        (base / "run" / lease.FILE).write_text(other.model_dump_json())
        monkeypatch.setattr(mirror, "RENEW_SECONDS", 0.0)
        told.wait_for("written by process 7 on elsewhere now")
        ledger.append("stopped", time=1.0)
    assert len(told.lines) == 1
    assert (base / "run" / LEDGER).read_bytes() != (run / LEDGER).read_bytes()
    assert Lease.parse((base / "run" / lease.FILE).read_bytes()) == other


def test_a_copy_to_read_knows_whether_its_driver_runs_and_has_no_weights(
    run: Path, base: Path, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOMIX_CACHE", str(tmp_path / "cache"))
    checkpoint(run, 3)
    url = (base / "run").as_uri()
    following_of(run, base).copy()
    assert not in_use(fetching.readable(url))
    other = Lease.own().model_copy(update={"host": "elsewhere"})
    (base / "run" / lease.FILE).write_text(other.model_dump_json())
    copy = fetching.readable(url)
    assert in_use(copy)
    assert not list(copy.rglob("*.safetensors"))
    fetching.fetch_weights(url, "artifacts/individual-3", copy / "artifacts" / "individual-3")
    assert (copy / "artifacts" / "individual-3" / "model.safetensors").read_bytes() == b"weights"
    (base / "run" / lease.FILE).unlink()
    assert not in_use(fetching.readable(url))
    assert read(copy) == read(run)


def test_a_folder_behind_its_mirror_is_brought_up_and_one_ahead_is_kept(
    run: Path, base: Path, ledger: Ledger, tmp_path: Path
) -> None:
    following_of(run, base).copy()
    url = (base / "run").as_uri()
    behind, _ = fetching.resumable(url, tmp_path / "b" / "run", [])
    ledger.append("stopped", time=1.0)
    assert fetching.resumable(url, run, [])[0] == run  # ahead
    following_of(run, base).copy()
    fetching.resumable(url, behind, [])
    assert (behind / LEDGER).read_bytes() == (run / LEDGER).read_bytes()


def test_a_run_that_was_resumed_elsewhere_is_refused(
    run: Path, base: Path, ledger: Ledger, tmp_path: Path
) -> None:
    following_of(run, base).copy()
    url = (base / "run").as_uri()
    other, _ = fetching.resumable(url, tmp_path / "b" / "run", [])
    with Ledger(other) as there:
        there.append("stopped", time=2.0)
    following_of(other, base).copy()
    with (
        pytest.raises(InputError, match=r"is ahead of .*resumed elsewhere"),
        mirrored(base.as_uri(), run, pytest.fail),
    ):
        pass
    ledger.append("stopped", time=1.0)
    with (
        pytest.raises(InputError, match="does not continue"),
        mirrored(base.as_uri(), run, pytest.fail),
    ):
        pass
    with pytest.raises(InputError, match="another run than"):
        fetching.resumable(url, run, [])


def test_a_store_cannot_write_outside_of_the_folder(
    run: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following_of(run, base).copy()
    sizes = Store.sizes
    monkeypatch.setattr(Store, "sizes", lambda one: {**sizes(one), "../../out": 1, "/etc/x": 1})
    folder, _ = fetching.resumable((base / "run").as_uri(), tmp_path / "b" / "c" / "run", [])
    assert [path.name for path in folder.iterdir()] == [LEDGER]


@pytest.mark.parametrize(
    ("url", "into", "message"),
    [
        ("{base}", None, r"holds no run, but has 'run' in it; name one as"),
        ("{base}/other", None, "holds no run"),
        ("{base}/run", "elsewhere", r"--run elsewhere: must be named run, as in file:"),
        ("s4://bucket/run", None, r"must begin with 's3://'.*did you mean 's3://'\?"),
        ("runs/first", "other", r"--run other: is where a URL is fetched to"),
    ],
)
def test_a_url_that_holds_no_run_is_refused(
    run: Path, base: Path, url: str, into: str | None, message: str
) -> None:
    following_of(run, base).copy()
    with pytest.raises(InputError, match=message):
        fetching.resumable(url.format(base=base.as_uri()), Path(into) if into else None, [])
