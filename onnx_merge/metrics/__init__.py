"""Task metrics that results are judged by: built-in ones and functions of the user."""
