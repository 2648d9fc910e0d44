"""What all passes share: their protocol and runner, the engine that runs models, reasons, and errors."""
