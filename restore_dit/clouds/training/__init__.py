"""Training of a cloud-detection network on labelled tile stores: examples, fit, validation, model files."""
