"""Buckets: several LoRA adapters trained at once on one base."""
