"""chrF against sacrebleu."""

from fitness.metrics import chrf


def test_chrf_is_sacrebleus() -> None:
    import sacrebleu

    outputs, references = ["the cat sat", "a dog"], ["the cat sat down", "a fog"]

    assert chrf(outputs, references) == sacrebleu.corpus_chrf(outputs, [references]).score
    assert 0 < chrf(outputs, references) < 100
    assert chrf(references, references) == 100
    assert chrf(["", ""], references) == 0
