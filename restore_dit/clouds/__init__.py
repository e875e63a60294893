"""Cloud and shadow detection."""
