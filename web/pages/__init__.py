"""What a browser loads: the account page, Swagger UI, and the OpenAPI document."""
