"""Sources, genes and genomes of an earlier search, matched with those of a new one."""

import pytest

from evo.reuse.matching import Unfit, common_genes, matched, translated
from population.genes import When
from population.space import AnyGene, Choice, Float, Int, SearchSpace, Simplex


def test_sources_are_matched_by_content_then_by_name_and_each_once() -> None:
    earlier = {"web": "1", "code": "2", "books": "3", "copy": "1", "old": "9"}
    now = {"code": "2", "pages": "1", "books": "33", "maths": "7"}
    found = matched(earlier, now)
    assert found.of == {"code": "code", "pages": "web", "books": "books"}
    assert found.same == {"code"}
    assert found.changed == ("books",)
    assert found.new == ("maths",)
    assert found.dropped == ("copy", "old")


def test_sources_that_swapped_names_are_matched_by_content() -> None:
    found = matched({"a": "1", "b": "2"}, {"a": "2", "b": "1"})
    assert found.of == {"a": "b", "b": "a"}
    assert not found.same


def test_sources_without_fingerprints_are_the_same_by_name() -> None:
    assert matched({"a": None, "b": None}, {"b": None, "c": None}).same == {"b"}
    assert matched({"a": None}, {"a": "1"}).changed == ("a",)


def test_a_mixture_loses_what_this_spec_lacks_and_has_none_of_what_is_new() -> None:
    space = SearchSpace({"mixture": Simplex(("a", "new", "c"))})
    sources = matched(dict.fromkeys("abc"), {"a": None, "new": None, "c": None})
    half = {"mixture": {"a": 0.4, "b": 0.5, "c": 0.1}}
    assert translated(half, space, sources)["mixture"] == pytest.approx(
        {"a": 0.8, "new": 0.0, "c": 0.2}
    )
    with pytest.raises(Unfit, match="more than half of the mixture"):
        translated({"mixture": {"a": 0.4, "b": 0.51, "c": 0.09}}, space, sources)


def test_values_beyond_the_bounds_are_clipped_and_other_options_refused() -> None:
    space = SearchSpace({"rate": Float(1e-4, 1e-2, log=True), "adapter": Choice(("none", "lora"))})
    sources = matched({}, {})
    found = translated({"rate": 0.5, "adapter": "lora", "gone": 3}, space, sources)
    assert found == {"rate": 1e-2, "adapter": "lora"}
    with pytest.raises(Unfit, match="adapter is 'dora', which is no option"):
        translated({"rate": 1e-3, "adapter": "dora"}, space, sources)


def test_common_genes_have_one_name_and_type_and_no_conditions_on_others() -> None:
    when: When = {"adapter": "lora"}
    earlier: dict[str, AnyGene] = {
        "rank": Int(1, 8),
        "rate": Int(1, 2),
        "decay": Choice(("a", "b")),
    }
    now: dict[str, AnyGene] = {
        "rate": Float(0.0, 1.0),
        "adapter": Choice(("none", "lora")),
        "rank": Int(4, 64, when=when),
        "decay": Choice(("b", "c")),
    }
    found = common_genes(earlier, now)
    assert found == {"rank": Int(4, 64), "decay": Choice(("b", "c"))}
    both = common_genes({**earlier, "adapter": now["adapter"]}, now)
    assert both["rank"] == now["rank"]
