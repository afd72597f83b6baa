"""Results of a run in trackers: MLflow, Weights & Biases, TensorBoard and Trackio."""
