"""What the leaderboard consists of: tasks, methods, one measured row, the page."""
