"""Options: what a user can ask for, and how text becomes an option's value."""
