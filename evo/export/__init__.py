"""`evo export`: an individual as a model, an adapter, or another trainer's configuration."""
