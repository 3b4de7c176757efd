"""What stands between the service and UtilMeta or Django, and knows no user."""
