"""What a user gave and evomix cannot use, and what a recipe asks for and the data do not hold."""


class InputError(ValueError):
    """Names the subject, the value, the rule and the remedy; the CLI prints it and exits with 2."""


class Infeasible(InputError):
    """A recipe whose fields, each of them fine, leave nothing to train on: a status, no bug."""
