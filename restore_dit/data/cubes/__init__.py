"""Data cubes (NetCDF files of one site) to tile series."""
