"""What a model's channels are, and what holds them back; nothing is changed."""
