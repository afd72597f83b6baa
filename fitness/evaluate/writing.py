"""Generation of samples by a trained individual on a worker, in place of scoring."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fitness.data.samples import Sample
from fitness.errors import InputError
from fitness.evaluation import Evaluation, EvaluationSpec, Task
from fitness.filters import needs
from fitness.inference.sampling import Continuation, Numbers, continued
from fitness.inference.server import Server
from fitness.merging import lineage
from fitness.models import weights
from fitness.recipe import Recipe
from fitness.samples.scoring import Given, scored
from fitness.samples.write import write
from fitness.training.supervised import precise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fitness.models.base import Base

KNOWN = "The first of them is"  # what a server's model is compared with the base after


def written(
    base: "Base",
    spec: EvaluationSpec,
    task: Task,
    again: Callable[[EvaluationSpec, Task], Evaluation],
    served: "Served | None" = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Generate samples: the cost, and details with the samples.

    The spec's only parent is the individual itself: a deleted checkpoint is trained `again`. The
    untouched base has none. Samples follow from the spec, unless a server generates them.
    """
    request = spec.writing
    assert request is not None
    asked = partial(
        write,
        base,
        request.settings,
        prompts=request.prompts,
        documents=request.real,
        individual=spec.individual,
        seed=spec.seed,
        round=request.round,
    )
    started = time.perf_counter()
    told: dict[str, Any] = {}
    samples: list[Sample] | None = None
    with lineage.parents(spec, task, again) as folders:
        beginning = time.perf_counter()
        if served is not None and can_be_lent(folders):
            samples = served.write(asked, folders)
            told["server"] = served.outcome
        if samples is None:
            recipe = Recipe.model_validate(dict(spec.recipe))
            with base.prepared(recipe, seed=spec.seed) as model:
                for folder in folders:
                    restore(model, folder, task)
                model.eval()
                with precise(base.device, recipe), base.on_device():
                    samples = asked()
    with base.on_device():
        samples = scored(samples, request.filters, Given(seed=spec.seed, base=base))
    cost = {
        "tokens": 0,
        "flops": 0.0,
        "train_seconds": beginning - started,
        "evaluate_seconds": time.perf_counter() - beginning,
    }
    return cost, {"samples": [asdict(sample) for sample in samples], **told}


class Served:
    """A server that generates for a worker, which does it where the server fails.

    It reads adapters from the folder `room`. It is asked for nothing more in an evaluation once it
    has failed.
    """

    def __init__(self, base: "Base", url: str, room: Path) -> None:
        self._base = base
        self._url = url
        self._room = room
        self._server: Server | None = None
        self.failure = ""  # in this evaluation

    @classmethod
    def of(cls, base: "Base", url: str | None, room: Path | None) -> "Served | None":
        """The server; None where there is none, or no folder that it could share."""
        return cls(base, url, room) if url and room is not None else None

    @property
    def outcome(self) -> str:
        """Its address, or why it failed in this evaluation, for the record."""
        return self.failure or self._url

    def write(
        self, asked: Callable[..., list[Sample]], adapters: Sequence[Path]
    ) -> list[Sample] | None:
        """Samples by the base with at most one adapter; None where the server failed."""
        self.failure = ""
        try:
            server = self._connected()
            with server.lent(adapters[0] if adapters else None) as name:

                def answer(_: "PreTrainedModel", *prompts: Any, **how: Any) -> list[Continuation]:
                    return server.continued(name, *prompts, vocabulary=self._vocabulary, **how)

                return asked(answer=answer)
        except InputError as error:
            self.failure = str(error)
            return None

    def continued(
        self,
        model: "PreTrainedModel",
        encoded: list[list[int]],
        numbers: Numbers,
        **sampling: Any,
    ) -> list[Continuation]:
        """Like `sampling.continued`, with the adapter that the model has now."""
        if self.failure:
            return continued(model, encoded, numbers, **sampling)
        try:
            server, how = self._connected(), {"vocabulary": self._vocabulary, **sampling}
            self._room.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=weights.SERVED, dir=self._room) as folder:
                weights.keep(model, adapter := Path(folder) / "adapter")
                with server.lent(adapter) as name:
                    return server.continued(name, encoded, numbers, **how)
        except (InputError, OSError) as error:
            self.failure = str(error)
            return continued(model, encoded, numbers, **sampling)

    @property
    def _vocabulary(self) -> int:
        return int(self._base.model.config.get_text_config().vocab_size)

    def _connected(self) -> Server:
        """The server, at the first time compared with the base. Raises InputError."""
        if self._server is None:
            server = Server(self._url)
            with self._base.untouched() as model:
                server.check(model, self._base.tokenizer(KNOWN)["input_ids"])
            self._server = server
        return self._server


def can_be_lent(folders: Sequence[Path]) -> bool:
    """True of the base, and of plain LoRA: servers add no DoRA, and no weights as wholes."""
    for folder in folders:
        if not (folder / weights.ADAPTER).is_file():
            return False
        if json.loads((folder / weights.ADAPTER).read_text(encoding="utf-8")).get("use_dora"):
            return False
    return True


def restore(model: "PreTrainedModel", folder: Path, task: Task) -> None:
    """Load an individual's checkpoint into a model that was prepared for its recipe."""
    if not (folder / weights.ADAPTER).is_file():
        lineage.begin(model, lineage.read(folder, task.head))
        return
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def of_the_worker(filters: Iterable[str]) -> tuple[str, ...]:
    """Filters that a worker runs: those that need no model but the base."""
    return tuple(name for name in filters if needs(name) == "base")
