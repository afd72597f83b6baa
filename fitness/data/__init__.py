"""Sources of text and records: documents, formats, tokens, mixtures."""
