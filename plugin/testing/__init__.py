"""What tests of the product and of third-party connectors share. Needs pytest for `conformance`."""
