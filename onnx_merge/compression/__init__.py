"""One run of the tool: loads, compresses, searches for the size, checks and saves."""
