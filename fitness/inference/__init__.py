"""Computing with a model without training it: sampling and log-probabilities."""
