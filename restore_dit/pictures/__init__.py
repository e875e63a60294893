"""Images of series for people: colour composites and grids of panels."""
