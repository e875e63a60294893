"""Images of series for display: colour composites and grids of panels."""
