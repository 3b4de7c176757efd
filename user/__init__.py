"""Who has an account, and which browsers are logged in to it."""
