"""Passkeys: logging in without a password (WebAuthn level 3). An app of its own, mounted with PASSKEYS=on."""
