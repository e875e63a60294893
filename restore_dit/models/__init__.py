"""Model directories that ship with the package: `default`. `make model` makes it."""
