"""The reconstruction endpoint on Ray Serve."""
