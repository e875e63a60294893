"""Series as files that others can read and write: one NetCDF file, or GeoTIFFs in a ZIP archive."""
