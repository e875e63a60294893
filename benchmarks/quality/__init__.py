"""Quality of the gap filling: a table and a figure of sites × protocols × methods."""
