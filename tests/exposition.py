"""Reads what /metrics responds with, as Prometheus does."""

from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Samples:
    """The samples of a scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.names = {sample.name for family in self.families.values() for sample in family.samples}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with a name and some labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def values_of(self, label: str) -> set[str]:
        """Return all values that a label has."""
        families = self.families.values()
        return {s.labels[label] for family in families for s in family.samples if label in s.labels}


def scrape(get: Callable[..., httpx.Response]) -> Samples:
    """Get /metrics, by the function for it of a client."""
    response = get("/metrics", headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip"})
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == CONTENT_TYPE
    return Samples(response.text)
