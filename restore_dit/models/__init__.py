"""Model directories that ship with the package: `default`, which `make model` trains."""
