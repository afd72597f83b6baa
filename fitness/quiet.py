"""Quieten transformers while evomix uses it: only errors are logged.

Its warnings and progress bars are about choices that evomix makes on purpose, such as kernels that
are not installed, and would be mixed with a command's output. Those that matter, such as missing
weights, are an InputError here. A level set by TRANSFORMERS_VERBOSITY, or by the program, is kept.
"""

from logging import ERROR, getLogger

# On kernels of other devices or packages, as soon as they are imported.
NOISY = ("torchao", "torch.utils._pytree", "bitsandbytes")


def quieten() -> None:
    """Let transformers log only errors from now on, unless another level was set."""
    from transformers.utils import logging

    for name in NOISY:
        getLogger(name).setLevel(ERROR)
    logging.disable_progress_bar()
    if logging.get_verbosity() == logging.WARNING:
        logging.set_verbosity_error()
