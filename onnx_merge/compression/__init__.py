"""One run of the tool: load, compress, search for the size, check, save."""
