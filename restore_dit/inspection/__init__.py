"""What `restore-dit inspect` shows of a tile store: its description, pictures, target decisions and damage."""
