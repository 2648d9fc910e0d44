"""Tunables of the tool, in frozen dataclasses by subject; each says what it trades and where it was settled."""
