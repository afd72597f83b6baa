"""Checks of the section `cleaning`: its sources, and the libraries that it needs."""

from importlib.util import find_spec

from evo.config.checks.genomes import Problems
from evo.config.file import Problem, unknown
from evo.config.sections import SearchConfig


def cleaning(config: SearchConfig) -> Problems:
    """Sources that are unknown, or pools; keys whose library is not installed; other trainers."""
    section = config.cleaning
    if section is None:
        return
    if not config.form.mixes or config.parts:
        message = "cleans the sources that evomix reads, and there are none; leave it out"
        yield Problem(("cleaning",), message)
    for index, name in enumerate(section.sources):
        key = ("cleaning", "sources", index)
        if name not in config.sources:
            yield Problem(key, unknown(name, config.sources, "there are", "source"))
        elif config.sources[name].kind == "sample":
            message = f"{name} is a pool of samples, which filters and `require` select from"
            yield Problem(key, message)
    for name, module in section.libraries():
        if find_spec(module) is None:
            message = f"needs the package {module}; install it with `pip install evomix[clean]`"
            yield Problem(("cleaning", name), message)
