"""Compression as a step of other tools. A module here needs the tool that it is named for, which is no dependency."""
