"""A server of the quickstart's model that loads adapters as vLLM does, on a port of this machine.

vLLM itself needs a GPU. The requests that it understands, and the form of its answers, are those of
its protocol (0.10.2 and later); answers are of our own generation with PEFT's own loading.
"""

import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from peft import PeftModel

from fitness.inference.sampling import continued, next_logps, numbers_of
from fitness.models.base import Base
from tests.fitness.quickstart import MODEL

KNOWN = {
    *("model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop_token_ids"),
    *("return_token_ids", "logprobs", "top_k", "min_p", "repetition_penalty"),
    *("presence_penalty", "frequency_penalty"),
}
NAME = "served"


@dataclass
class Vllm:
    """A running server: what it was asked, what is loaded, and how it is to answer."""

    url: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)  # path and body
    loaded: dict[str, Path] = field(default_factory=dict)
    seen: list[bytes] = field(default_factory=list)  # weights of the adapters that were loaded
    adapters: bool = True  # they may be loaded
    shift: float = 0.0  # of log-probabilities, as by another model
    tells_tokens: bool = True
    end_inside: bool = True  # the ending token is among the others
    instead: dict[str, Any] = field(default_factory=dict)  # in each choice
    unloads: bool = True
    longest: int | None = None  # tokens of a prompt and its answer
    down: bool = False


def _with(base: Base, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PEFT's use of transformers
        return PeftModel.from_pretrained(base.model, folder)


@contextmanager
def vllm(base_folder: Path = MODEL) -> Iterator[Vllm]:
    served, base, turn = Vllm(), Base(base_folder), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cards = [{"id": NAME, "parent": None, "max_model_len": served.longest}]
            cards += [{"id": name, "parent": NAME} for name in served.loaded]
            told = (200, {"data": cards}) if self.path == "/v1/models" else (404, {})
            self._send(*(told if not served.down else (503, {"error": "down"})))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with turn:
                served.asked.append((self.path, asked))
                self._send(*(self._answer(asked) if not served.down else (503, {"error": "down"})))

        def _answer(self, asked: dict[str, Any]) -> tuple[int, Any]:
            if self.path.endswith("_lora_adapter") and served.adapters:
                name = asked["lora_name"]
                if self.path == "/v1/unload_lora_adapter":
                    gone = served.loaded.pop(name, None)
                    return (200, "Success") if gone and served.unloads else (500, {"error": "gone"})
                folder = Path(asked["lora_path"])
                if not (folder / "adapter_config.json").is_file():
                    return 404, {"error": {"message": f"no adapter in {folder}"}}
                served.loaded[name] = folder
                served.seen.append((folder / "adapter_model.safetensors").read_bytes())
                return 200, "Success: adapter added"
            if self.path != "/v1/completions" or asked["model"] not in {NAME, *served.loaded}:
                return 404, {"error": {"message": "not found"}}
            assert asked.keys() <= KNOWN
            return 200, {"choices": [self._choice(asked)]}

        def _choice(self, asked: dict[str, Any]) -> dict[str, Any]:
            folder = served.loaded.get(asked["model"])
            with base.lent() if folder else nullcontext():
                model: Any = _with(base, folder) if folder else base.model
                model.eval()
                ends = asked.get("stop_token_ids", [])
                [(tokens, end)] = continued(
                    model,
                    [asked["prompt"]],
                    numbers_of(asked["seed"], asked["max_tokens"]),
                    ends=ends or [base.tokenizer.eos_token_id],
                    max_new_tokens=asked["max_tokens"],
                    temperature=asked["temperature"],
                    top_p=asked.get("top_p", 1.0),
                )
                choice: dict[str, Any] = {"finish_reason": "length" if end is None else "stop"}
                if end is not None:
                    choice["stop_reason"] = end
                if served.tells_tokens:
                    inside = end is not None and served.end_inside
                    choice["token_ids"] = [*tokens, end] if inside else tokens
                if "logprobs" in asked:
                    prefixes = [[*asked["prompt"], *tokens[:n]] for n in range(len(tokens))]
                    logps = next_logps(model, prefixes, pad=0).max(1) + served.shift
                    choice["logprobs"] = {"token_logprobs": logps.tolist()}
            return choice | served.instead

        def _send(self, status: int, answer: Any) -> None:
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as served.url:
        yield served


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address, ending in /v1, of a server on a port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
