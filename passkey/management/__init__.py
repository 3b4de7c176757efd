"""What is done to passkeys from the command line."""
