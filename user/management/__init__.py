"""What is done to accounts and sessions from the command line."""
