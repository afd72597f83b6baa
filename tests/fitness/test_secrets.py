"""No secret stays in a text that becomes a fact, a log or a report."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitness.evaluate.function import by_function
from fitness.evaluate.transcript import READ, Transcript
from fitness.evaluation import EvaluationSpec, Status, Task, failed
from fitness.secrets import Filter, quoted, secrets_of, without_secrets

NAMES = (
    *("DB_PASS", "MYSQL_PWD", "SSHPASS", "GITHUB_PAT", "HF_TOKEN", "WANDB_API_KEY", "PGPASSWORD"),
    *(
        "AWS_SECRET_ACCESS_KEY",
        "DOCKER_AUTH_CONFIG",
        "GPG_PASSPHRASE",
        "db_pw",
        "JWT",
        "SENTRY_DSN",
    ),
    *("RESTIC_PASSWORD2", "PASS", "NPM_TOKEN", "AZURE_STORAGE_SAS", "SESSION_COOKIE"),
)
OTHERS = (
    *("PATH", "PYTHONPATH", "HOME", "PWD", "OLDPWD", "LANG", "COMPASS", "PATTERN", "BYPASSED"),
    *("GIT_AUTHOR_NAME", "SPIN"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_that_is_named_like_a_secret_is_one(name: str) -> None:
    assert secrets_of({name: "correct horse"}) == ["correct horse"]
    assert (
        Filter({name: "hunter2"}).clean("(hunter2) hunter22 ahunter2") == "(***) hunter22 ahunter2"
    )


@pytest.mark.parametrize("name", OTHERS)
def test_a_variable_that_is_not_named_like_one_is_none(name: str) -> None:
    assert secrets_of({name: "correct horse"}) == []


@pytest.mark.parametrize("value", ["true", "8080", "none", "", "a1", "/tmp", " "])
def test_a_value_that_stands_anywhere_by_chance_is_none(value: str) -> None:
    assert secrets_of({"SOME_TOKEN": value}) == []


@pytest.mark.parametrize(
    "value",
    [
        "postgres://me:s3cret-word@db.example:5432/x",
        "postgres://me:s3cret-word@db.example/x?mail=a@b.example",
        "redis://:s3cret-word@h",
        "https://s3cret-word@github.example/x.git",
        "mysql://me@h/x?ssl=1&password=s3cret-word&x=y",
        "host=h user=me password=s3cret-word dbname=x",
        "Server=h;Pwd=s3cret-word;",
        "amqp://me:s3cret%2Dword@h",
    ],
)
def test_a_password_within_any_variable_is_hidden_wherever_it_is_printed(value: str) -> None:
    text = f"cannot log in with 's3cret-word' at {value} nor\n{value}"
    assert "s3cret" not in Filter({"DATABASE_URL": value}).clean(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("see http://me:pw@host/x", "see http://me:***@host/x"),
        ("git+https://ghp0123456789@host", "git+https://***@host"),
        ("key sk-proj-0123456789abcdef0123 used", "key *** used"),
        ("hf_abcdefghijklmnopqrstuv", "***"),
        ("http://localhost:8000/v1?mail=a@b is up", "http://localhost:8000/v1?mail=a@b is up"),
        ("ssh://git@host/x.git and a@b.example", "ssh://git@host/x.git and a@b.example"),
        ("module:function at line 3: x@y", "module:function at line 3: x@y"),
    ],
)
def test_secrets_that_no_variable_holds_are_known_by_their_shape(text: str, clean: str) -> None:
    assert Filter({}).clean(text) == clean


def test_a_secret_is_known_as_errors_show_it() -> None:
    secret = "päss\n'w\"ord/1"
    hide = Filter({"DB_PASS": secret})
    for shown in (secret, repr(secret), json.dumps(secret), json.dumps({"x": [secret]})):
        assert "ord" not in hide.clean(shown), shown
    assert "ord" not in hide.clean("p%C3%A4ss%0A%27w%22ord%2F1")


@settings(max_examples=40)
@given(
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.text(st.sampled_from("ab1 _-"), min_size=4, max_size=12),
)
def test_cleaning_twice_changes_nothing(text: str, secret: str) -> None:
    hide = Filter({"A_TOKEN": secret})
    once = hide.clean(f"{text} {secret} {text}")
    assert hide.clean(once) == once


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 30))
def test_a_secret_is_hidden_wherever_the_output_is_cut(size: int, before: int) -> None:
    class Pieces(io.BytesIO):
        def read1(self, _: int | None = None, /) -> bytes:
            return self.read(size)

    secret = "words of a ß secret"
    url = "postgres://me:other-secret@h"
    log = Transcript(None, {"MY_KEY": secret})
    text = f"{'x' * before} {secret}\nat {url} {secret}."
    log.drain(Pieces(text.encode() + b"\xff"))
    log.close()
    hidden = f"{'x' * before} ***\nat postgres://me:***@h ***.\ufffd"
    assert log.last(1000) == hidden.strip()


def test_a_long_text_without_blanks_takes_no_quadratic_time() -> None:
    for text in ("a-" * READ, "a://" * READ, "x" * 20 * READ, "a://b:" * READ):
        without_secrets(text)
    assert Filter({}).finished("x" * READ) == READ - 4096


def test_an_exception_of_a_users_function_reaches_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from evo.record.ledger import Ledger, read

    monkeypatch.setenv("DB_PASS", "hunter2!")
    monkeypatch.setenv("DATABASE_URL", "postgres://me:s3cret-word@h/x")
    spec = EvaluationSpec(0, {}, 0)
    why = "x" * 1995 + "hunter2! s3cret-word"  # which is cut in the middle of one
    assert "nter2!" not in failed(spec, Status.ERROR, why).message
    with Ledger.create(tmp_path / "run", {"config": {}, "time": 0.0}) as ledger:
        told = ledger.append("note", message="died with hunter2!", individual=0)
        assert told["message"] == "died with ***"
        ledger.append("note", message=None)
    assert [fact.get("message") for fact in read(tmp_path / "run")][1:] == ["died with ***", None]
    older = tmp_path / "older" / "ledger.jsonl"  # written before anything was filtered
    older.parent.mkdir()
    older.write_text(
        '{"fact":"search","format":1,"config":{},"time":0.0}\n'
        '{"fact":"note","message":"pw s3cret-word"}\n'
    )
    assert read(older.parent)[1]["message"] == "pw ***"


def test_what_a_function_returns_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "0123456789" * 8
    monkeypatch.setenv("SOME_KEY", secret)
    assert quoted("x" * 20 + secret, 60) == "'" + "x" * 20 + "***'"
    plugin = sys.modules[__name__]
    for value in ([secret], {"loss": secret}, {secret: "x"}):
        monkeypatch.setattr(
            plugin, "given", lambda recipe, value=value, **more: value, raising=False
        )
        run = by_function(Task(f"{__name__}:given"))
        with pytest.raises(Exception, match=r"must return .*\*\*\*") as caught:
            run(EvaluationSpec(0, {}, 0))
        assert "0123" not in str(caught.value)
    monkeypatch.setattr(plugin, "given", lambda recipe, **more: {f"loss {secret}": 1})
    named = by_function(Task(f"{__name__}:given"))(EvaluationSpec(0, {}, 0))
    assert named.measurements == {"loss ***": 1.0}
    assert Task("builtin").kinds == {}
