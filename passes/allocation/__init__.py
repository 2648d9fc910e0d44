"""How a budget is spread over channel groups."""
