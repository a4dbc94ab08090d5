"""The command line; light to import, so that help and refusals come at once."""
