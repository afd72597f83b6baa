"""Evaluators: fine-tune one individual and measure it, by the builtin trainer, TRL or a command."""
