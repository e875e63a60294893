"""What the commands do, once their arguments are read. What one needs is imported when it runs."""
