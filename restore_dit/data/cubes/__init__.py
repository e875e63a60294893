"""Reads data cubes (the NetCDF, Zarr or GeoTIFF files of one site) into tile series."""
