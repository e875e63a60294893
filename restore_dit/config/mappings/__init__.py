"""Mappings of data cubes that come with the package."""
