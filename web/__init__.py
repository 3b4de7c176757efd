"""HTTP, for any app."""
