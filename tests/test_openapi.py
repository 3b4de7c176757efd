"""What the framework's OpenAPI document knows of the service."""

from utilmeta.core.api.specs.openapi import OpenAPI

from server import service
from web.problems import PROBLEMS


def test_document_knows_every_endpoint_and_the_error_schema():
    document = OpenAPI(service)()

    operations = {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "put")
    }
    assert set(operations) == {
        ("get", "/health"),
        ("get", "/health/ready"),
        ("get", "/user"),
        ("put", "/user"),
        ("post", "/user/signup"),
        ("post", "/user/login"),
        ("post", "/user/logout"),
    }
    for operation in operations.values():
        assert "#/components/responses/Problem" in str(operation["responses"])
    (media_type,) = document["components"]["responses"]["Problem"]["content"]
    assert media_type == "application/problem+json"
    assert all(code in str(document["components"]) for code in PROBLEMS)
