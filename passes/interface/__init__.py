"""What the passes are handed and what they raise: the engine that runs models, and errors."""
