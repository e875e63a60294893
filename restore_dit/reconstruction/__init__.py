"""Gap filling: applies a trained model to cloudy series."""
