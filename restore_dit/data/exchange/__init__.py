"""Series as files for exchange with other software: one NetCDF file, or GeoTIFFs in a ZIP archive."""
