"""Settings of the cleaning of sources; by default nothing is changed or dropped."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class Cleaning(BaseModel):
    """Cleaning of the sources before they are tokenised, in the order of these keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sources: tuple[str, ...] = Field(
        default=(),
        description="Sources to clean, in this order: of duplicates across them the first is kept. "
        "Default: all but pools of samples.",
    )
    normalise: bool = Field(
        default=False,
        description="Mend text: wrongly decoded characters, HTML entities, ligatures, line ends "
        "(ftfy).",
    )
    least_words: int = Field(default=0, ge=0, description="Drop documents of fewer words.")
    most_words: int | None = Field(
        default=None, ge=1, description="Drop documents of more words. Default: no limit."
    )
    repetition: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Drop documents in which a larger share of the 4-grams of words has occurred "
        "before. Default: no limit.",
    )
    languages: tuple[Language, ...] = Field(
        default=(),
        description="Keep only documents that are most likely in one of these languages (ISO 639 "
        "codes, such as en; py3langid). Default: all.",
    )
    held_out: bool = Field(
        default=False,
        description="Drop documents that share 13 words in a row with a held-out text or prompt, "
        "or contain all of a shorter one of 8 words or more.",
    )
    duplicates: Literal["exact", "near"] | None = Field(
        default=None,
        description="Drop documents that are equal but for case and white space to an earlier one "
        "(`exact`), or whose shingles of three words are .8 alike (`near`, MinHash), within and "
        "across sources. Default: keep them.",
    )

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if self.most_words is not None and self.most_words < self.least_words:
            raise ValueError(
                f"most_words {self.most_words} is below least_words {self.least_words}; no "
                "document has such a length"
            )
        return self

    def libraries(self) -> Iterator[tuple[str, str]]:
        """Keys that need an optional library, each with the name of its module."""
        if self.normalise:
            yield "normalise", "ftfy"
        if self.languages:
            yield "languages", "py3langid"
