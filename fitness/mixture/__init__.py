"""Mixtures of sources as streams of batches: decks of records, packing, infilling."""
