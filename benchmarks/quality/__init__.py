"""The project's claims of quality, measured: real sites × protocols × methods in one table and one picture."""
