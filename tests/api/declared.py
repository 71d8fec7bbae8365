"""The server's OpenAPI document as the judge of what the server answers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema_rs
from running import Cloud


class Declared:
    """What a server says that it answers."""

    def __init__(self, cloud: Cloud) -> None:
        self.document = cloud.admin.request("GET", "/openapi.json")
        self._validator = cache(self._make)

    def judge(self, method: str, path: str, status: int, answer: Any) -> None:
        """Assert that an answer to a request is one that the document declares."""
        template = re.sub(
            r"^(/v2\.0/(?:qos/policies|(?!qos/)[^/]+))/[^/?]+", r"\1/{id}", path.partition("?")[0]
        )
        if method.lower() not in self.document["paths"][template]:
            assert status in (404, 405), f"{method} {template} is not declared"
            return
        validator = self._validator(template, method.lower(), str(status))
        if validator is None:
            assert answer is None, f"{method} {template} {status} has no body"
            return
        validator.validate(answer)

    def _make(self, template: str, method: str, status: str) -> Any:
        responses = self.document["paths"][template][method]["responses"]
        assert status in responses, f"{method} {template} does not declare {status}"
        response = responses[status]
        if "$ref" in response:
            response = self.document["components"]["responses"][status]
        if "content" not in response:
            return None
        schema = response["content"]["application/json"]["schema"]
        whole = {**schema, "components": self.document["components"]}
        return jsonschema_rs.validator_for(whole)
