"""The interface of the passes to their callers: the engine that runs models, and errors."""
