"""PASTIS-R: reads its published layout into tile series, and writes simulated ones in that layout."""
