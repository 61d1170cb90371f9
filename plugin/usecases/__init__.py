"""One module per verb. Each declares the part of the store it needs as a Protocol and works with domain values."""
