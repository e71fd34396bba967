"""One module for each row of the table: `measure(run)` records its figures."""
