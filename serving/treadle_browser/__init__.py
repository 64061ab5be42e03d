"""A page that runs a model in a browser. It is JavaScript; this package carries its files."""
