"""What passes have in common: their protocol, their runner, the engine that they are handed, and their errors."""
