"""The quickstart's model with a chat template, spoken to here or over a real HTTP server.

`transformers serve` needs fastapi and uvicorn, which are no dependencies; this one speaks the same
protocol around our own generation, and can be told to fail.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

from fitness.data.chats import rendered
from fitness.inference.sampling import next_logps
from fitness.judges.endpoint import Endpoint, place_of
from fitness.judges.speakers import Local
from fitness.models.base import Base
from tests.fitness.inference.serving import listening
from tests.fitness.quickstart import MODEL

TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}: {% endif %}"
)
CONTEXT = 1024  # tokens; rotary positions go on beyond the 512 that it was trained with
MODEL_NAME = "quick"
SECRET = "sk-secret-0123456789"


def talking(folder: Path) -> Path:
    """A folder with the quickstart's model, which has a chat template there."""
    shutil.copytree(MODEL, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@dataclass
class Served:
    """A running server: what it is asked, and how it is to answer."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorised: list[str | None] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # statuses of the first answers
    refusing: int = 0  # a status of every answer
    headers: dict[str, str] = field(default_factory=dict)  # of failures
    logprobs: str = "told"  # or `missing`, or `refused` as by `transformers serve`
    key: str = ""  # that it wants
    body: bytes | None = None  # in place of an answer
    say: Callable[[str, int], str] | None = None  # of question and seed, in place of the model

    def endpoint(self, **settings: Any) -> Endpoint:
        """Record the pauses that it would take in `pauses`, without taking them."""
        self.pauses: list[float] = []
        return Endpoint(place_of(f"{self.url}#{MODEL_NAME}"), pause=self.pauses.append, **settings)


@contextmanager
def serving(base: Base) -> Iterator[Served]:
    """A real server of the protocol on a port of this machine."""
    served = Served()
    turn = threading.Lock()
    local = Local(base, MODEL_NAME)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with turn:
                served.asked.append(asked)
                served.authorised.append(self.headers.get("Authorization"))
                status, answer = self._answer(asked)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in served.headers.items() if status != 200 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, asked: dict[str, Any]) -> tuple[int, Any]:
            sent = self.headers.get("Authorization")
            told = {"error": {"message": f"no good: {sent}"}}
            if served.failures:
                return served.failures.pop(0), told
            if served.refusing:
                return served.refusing, told
            if self.path != "/v1/chat/completions" or asked["model"] != MODEL_NAME:
                return 404, told
            if served.key and sent != f"Bearer {served.key}":
                return 401, told
            if "logprobs" in asked and served.logprobs == "refused":
                return 422, {"error": "Unsupported fields: logprobs"}
            if served.body is not None:
                return 200, served.body
            return 200, {"choices": [self._choice(asked)]}

        def _choice(self, asked: dict[str, Any]) -> dict[str, Any]:
            chat = asked["messages"]
            if served.say is not None:
                text, ended = served.say(chat[0]["content"], asked["seed"]), True
                top = [{"token": text, "logprob": -0.1}, {"token": "?", "logprob": -3.1}]
            else:
                drawn = {name: asked[name] for name in ("temperature", "seed")}
                (((text, ended),),) = local.answers(
                    [chat], 1, max_new_tokens=asked["max_tokens"], **drawn
                )
                top = top_tokens(base, chat, asked.get("top_logprobs", 0))
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
            choice["finish_reason"] = "stop" if ended else "length"
            if asked.get("logprobs") and served.logprobs == "told":
                choice["logprobs"] = {"content": [{"token": text, "top_logprobs": top}]}
            return choice

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as served.url:
        yield served


def top_tokens(base: Base, chat: list[dict[str, str]], count: int) -> list[dict[str, Any]]:
    text = rendered(base.tokenizer, chat, "served", prompting=True)
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    (logps,) = next_logps(base.model, [ids], pad=base.tokenizer.eos_token_id)
    return [
        {"token": base.tokenizer.decode([int(place)]), "logprob": float(logps[place])}
        for place in np.argsort(-logps)[:count]
    ]
