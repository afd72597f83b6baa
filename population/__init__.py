"""Search spaces, individuals, variation, selection and strategies: numbers only, no models."""
