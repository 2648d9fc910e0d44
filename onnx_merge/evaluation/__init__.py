"""What the result is worth: fidelity of its outputs, the verdict, gates, and bounds on what it loses."""
