"""The search loop: next individual and fidelity, evaluation, replicates, promotion, result."""
