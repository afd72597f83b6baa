"""A named data set, as the spec describes it: where it is, of which format and kind."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from fitness.data import templates
from fitness.data.kinds import Kind
from fitness.data.readers import FormatName
from fitness.data.requirements import Requirements
from fitness.methods import Method

Half = Literal["selection", "test"]


class Source(Requirements):
    """One named data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[
        str, Field(min_length=1, description="A file, a folder, or hub:owner/name[/config][@split]")
    ]
    format: Annotated[
        FormatName | None,
        Field(
            description="Format of the file; by default that of its suffix, which may be followed "
            "by .gz, .zst, .bz2 or .xz."
        ),
    ] = None
    kind: Annotated[
        Kind,
        Field(
            description="Kind of record: `text`; `completion` {prompt, completion} or {messages}, "
            "trained on completions only; `preference` {prompt, chosen, rejected}; "
            "`rating` {prompt, completion, label: true or false}; `prompt` {prompt}, optionally "
            "with {reference}. Each part is text, or a list of chat messages {role, content}. For "
            "model.task classification, `label` {text, label}, and for token_classification `tags` "
            "{tokens, tags}: lists of words and of BIO tags. `sample`: a pool of generated "
            "samples, {prompt, completion, individual, seed, scores}, filtered by the thresholds "
            "in the recipe's `keep_` fields."
        ),
    ] = "text"
    text: Annotated[
        str,
        Field(description="Column or key that holds the text; for kinds `text` and `label` only."),
    ] = "text"
    template: Annotated[
        str | dict[str, str] | None,
        Field(
            description="Text made of the columns of each record, as `{subject} {relation} "
            "{object}.`; or one for each column that the kind needs, as {prompt: '...', "
            "completion: '...'}."
        ),
    ] = None
    split: Annotated[str, Field(description="Split of a Hub data set.")] = "train"
    limit: Annotated[
        int | None, Field(ge=1, description="Read at most this many documents, from the first.")
    ] = None

    methods: Annotated[
        tuple[Method, ...] | None,
        Field(
            min_length=1,
            description="Training methods that learn from this source. Under an individual's other "
            "methods it is left out, and its share goes to the other sources in proportion. "
            "Default: all.",
        ),
    ] = None

    @model_validator(mode="after")
    def _methods_once(self) -> Self:
        given = self.methods or ()
        for index, method in enumerate(given):
            if method in given[:index]:
                raise ValueError(f"methods: {method} is there twice; keep one of them")
        return self

    def teaches(self, method: str) -> bool:
        """True where a training method learns from this source."""
        return self.methods is None or method in self.methods

    @model_validator(mode="after")
    def _sound_template(self) -> Self:
        if self.template is not None:
            templates.check(self.template)
        return self

    @model_validator(mode="after")
    def _of_samples(self) -> Self:
        given = [name for name in Requirements.model_fields if getattr(self, name)]
        if self.kind != "sample" and given:
            raise ValueError(f"{given[0]} is for sources of kind sample, this one is {self.kind}")
        return self
