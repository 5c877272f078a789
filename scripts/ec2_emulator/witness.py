"""A second witness of the emulator: botocore's models of AWS's services. An answer that a model
does not allow is a defect of the emulator, whether moto or this package invented it."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import botocore.parsers
from botocore.exceptions import UnknownServiceError
from botocore.model import OperationModel, OperationNotFoundError, Shape, StructureShape
from botocore.parsers import BaseXMLResponseParser as XmlParser
from moto.core.utils import get_service_model
from werkzeug import Response

from ec2_emulator.state import ApiCall

_CODE = re.compile(r"[A-Z]\w+(\.[A-Z]\w+)*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FRAME = frozenset({"requestId", "RequestId", "ResponseMetadata"})  # in XML, in no model
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str, bytes),
    "boolean": (bool,),
    **dict.fromkeys(("integer", "long"), (int,)),
    **dict.fromkeys(("float", "double"), (int, float)),
    "timestamp": (int, float, datetime.datetime),
}
_OPEN = frozenset({"ec2", "s3"})  # their models list some error codes or none
_COMMON = ("AccessDenied", "Throttling", "UnrecognizedClient", "Validation")
COMMON_CODES = {
    "xml": {"AccessDenied", "InvalidClientTokenId", "Throttling", "ValidationError"},
    "json": {f"{kind}Exception" for kind in _COMMON},
}
"""Error codes of all services that speak XML, or JSON, which no model lists
(https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html)."""
_ENUM, _FEATURES = "is not in the enum", "InstanceTypes[].ProcessorInfo.SupportedFeatures[]"
_GATEWAY = "DescribeInternetGateways.InternetGateways[].Attachments[].State"
NOT_MENDED = {
    f"DescribeStackEvents.StackEvents[].ResourceStatus: 'REVIEW_IN_PROGRESS' {_ENUM}": "AWS's own "
    "events have it while a stack has no more than a change set",
    f"DescribeInstanceTypes.{_FEATURES}: 'metal-compatibility' {_ENUM}": "of AWS's own list of "
    "types, newer than the model",
    f"{_GATEWAY}: 'available' {_ENUM}": "the model's own text says it of internet gateways",
}
"""Differences that stay, each with the reason."""


class _Witness:
    """A mixin for botocore's parsers: it notes what an answer's shape does not allow."""

    def watch(self, operation: OperationModel) -> list[str]:
        self._paths: dict[Shape, str] = {operation.output_shape: operation.name}
        self._found: list[str] = []
        return self._found

    def _parse_shape(self, shape: Shape, node: Any) -> Any:
        path = self._paths.setdefault(shape, shape.name)
        try:
            self._found += self._differences(shape, node, path)
            return super()._parse_shape(shape, node)  # type: ignore[misc]
        except (AttributeError, KeyError, TypeError, ValueError):
            value = node.text if isinstance(node, Element) else node
            self._found.append(f"{path}: {value!r} is no {shape.type_name}")

    def _differences(self, shape: Shape, node: Any, path: str) -> Iterator[str]:
        is_flat = shape.serialization.get("flattened")
        if isinstance(node, list) and node and isinstance(node[0], Element) and not is_flat:
            yield f"{path}: {len(node)} elements"
        elif shape.type_name == "structure":
            yield from self._of_members(shape, node, path)
        elif shape.type_name == "list":
            self._paths[shape.member] = f"{path}[]"
            name = shape.member.serialization.get("name", "member")
            if isinstance(node, Element) and not is_flat:
                tags = {XmlParser._node_tag(self, child) for child in node}
                yield from (f"{path}: an item <{tag}>" for tag in tags - {name})
        elif shape.type_name == "map":
            self._paths |= {shape.key: f"{path}{{}}", shape.value: f"{path}{{}}"}
        else:
            yield from _of_scalar(shape, node, path)

    def _of_members(self, shape: StructureShape, node: Any, path: str) -> Iterator[str]:
        is_xml = isinstance(node, Element)
        given = (
            {XmlParser._node_tag(self, child): child for child in node} if is_xml else dict(node)
        )
        for name, member in shape.members.items():
            self._paths[member] = f"{path}.{name}"
            if not member.serialization.keys() & {"location", "xmlAttribute"}:
                key = XmlParser._member_key_name(self, member, name)
                if key not in given:
                    if name in shape.required_members:
                        yield f"{path}.{name}: missing"
                elif given.pop(key) is None:
                    yield f"{path}.{name}: null"
        yield from (f"{path}.{key}: no such member" for key in given if key not in _FRAME)


def _of_scalar(shape: Shape, node: Any, path: str) -> Iterator[str]:
    kind, value = shape.type_name, node
    if isinstance(node, Element):
        value = node.text or ""
        forms = {"boolean": re.compile("true|false"), "timestamp": _TIME}
        if kind in forms and not forms[kind].fullmatch(value):
            yield f"{path}: {value!r} is no {kind}"
    elif "location" not in shape.serialization:
        is_text = shape.serialization.get("timestampFormat") == "iso8601"
        # Exact: for `isinstance`, a boolean is an integer.
        if type(node) not in ((str,) if is_text else _TYPES[kind]):
            yield f"{path}: {node!r} is no {kind}"
    if kind == "string" and shape.enum and value not in shape.enum:
        yield f"{path}: {value!r} is not in the enum"


_PARSERS: dict[str, type] = {
    name: type(f"Witness{parser.__name__}", (_Witness, parser), {})
    for name, parser in botocore.parsers.PROTOCOL_PARSERS.items()
}


def differences(call: ApiCall, answer: Response) -> list[str]:
    """Return what the model of the call's operation does not allow in the answer, each with the
    member's path."""
    if answer.status_code == 501:
        return []  # the emulator's own error
    try:
        operation = get_service_model(call.service).operation_model(call.action)
    except (UnknownServiceError, OperationNotFoundError):
        return []  # a service of moto's that goldenami does not call
    body, protocol = answer.get_data(), operation.service_model.metadata["protocol"]
    # A service with several protocols answers in that of the request.
    if protocol == "smithy-rpc-v2-cbor" and answer.mimetype != "application/cbor":
        protocol = "query" if body.startswith(b"<") else "json"
    parser = _PARSERS[protocol](blob_parser=str)
    found = parser.watch(operation)
    is_error = answer.status_code >= 301
    raw = {"status_code": answer.status_code, "headers": dict(answer.headers), "body": body}
    if operation.has_streaming_output and not is_error:
        raw["body"] = io.BytesIO(body)
    try:
        parsed = parser.parse(raw, operation.output_shape)
    except (KeyError, ValueError, botocore.parsers.ResponseParserError) as error:
        return [f"{operation.name}: no answer of {protocol}: {error!r}"]
    if is_error and body:  # HEAD has no body
        found += _of_error(operation, parsed["Error"], "json" if "json" in protocol else "xml")
    # A page of many items may differ in each of them.
    return [line for line in dict.fromkeys(found) if line not in NOT_MENDED]


def _of_error(operation: OperationModel, error: dict[str, str], speech: str) -> Iterator[str]:
    service, code = operation.service_model.service_name, error["Code"]
    known = {shape.error_code for shape in operation.error_shapes} | COMMON_CODES[speech]
    if not error["Message"]:
        yield f"{operation.name}: error {code} has no message"
    is_known = service in _OPEN or code in known or code == "ServiceUnavailable"
    if not (_CODE.fullmatch(code) and is_known):
        yield f"{operation.name}: no error {code}"
