"""The one exception for what a user gave and evomix cannot use."""


class InputError(ValueError):
    """Names the subject, the value, the rule and the remedy; the CLI prints it and exits with 2."""
