"""Quieten transformers while evomix uses it: of what it logs, errors alone are told.

Its warnings and progress bars are about choices that evomix makes on purpose, such as kernels that
are not installed, and would stand among what a command says. What matters of them, such as missing
weights, is an InputError here. TRANSFORMERS_VERBOSITY, or a program that chose another level than
the default one, has its way.
"""


def quieten() -> None:
    """Let transformers say errors alone from now on, unless somebody chose a level."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if logging.get_verbosity() == logging.WARNING:
        logging.set_verbosity_error()
