"""What stands between the service and its framework, and knows no user."""
