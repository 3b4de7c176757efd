"""Everything HTTP that is not about users."""
