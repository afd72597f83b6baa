"""Models that judge and rewrite: the protocol, local models and servers."""
