"""Self-contained HTML pages of runs, inspections and sweeps, made from their JSON reports."""
