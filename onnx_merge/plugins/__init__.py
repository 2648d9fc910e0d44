"""Op rules and passes of others: registered by a call, or by installed packages through entry points."""
