"""PASTIS-R: its published layout read into tile series, and written from simulated ones."""
