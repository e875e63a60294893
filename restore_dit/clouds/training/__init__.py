"""Training of a cloud network on labelled tile stores: examples, fit, validation, what is left behind."""
