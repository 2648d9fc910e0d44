"""The command line: arguments, subcommands and exit codes."""
