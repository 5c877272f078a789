"""The emulator's HTTP server: it logs, authorizes and refuses calls as AWS does, then asks moto
with its handlers replaced."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

# Otherwise the 1,300 snapshots of moto's default AMIs belong to the caller ("self").
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
# moto's validation knows only the caller's own AMIs; `images.launchable` knows shared ones, too.
os.environ.pop("MOTO_ENABLE_AMI_VALIDATION", None)

from moto.core.exceptions import ServiceException
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug import Response
from werkzeug.serving import BaseWSGIServer, make_server

from ec2_emulator import answers, authorization, lateness, moto_overrides, witness
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.services import price_list
from ec2_emulator.state import STATE, ApiCall, EmulatorSettings
from ec2_emulator.storage import ebs_direct, root_volumes

CONTROL = "/_emulator/"
"""The control API: GET calls, POST defects, POST reset, POST damage, POST write, PATCH settings."""

_PARALLEL = frozenset({"ebs:PutSnapshotBlock", "ebs:GetSnapshotBlock"})
"""Calls that run in parallel, as their handlers lock for themselves. All others run one at a time:
moto's handlers are not safe for threads."""


class Dispatcher(DomainDispatcherApplication):
    """moto's choice of a service by the host name, kept for each host: moto lists its own folder
    each time."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends_by_host: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends_by_host:
            if (
                host
                and "." in host
                and not any(
                    pattern.match(f"http://{host}") for _, pattern in self.backend_url_patterns
                )
            ):
                raise NotImplementedError(host)
            self._backends_by_host[host] = super().get_backend_for_host(host)
        return self._backends_by_host[host]


class EmulatorApplication:
    """The WSGI application."""

    def __init__(self) -> None:
        # moto warns of error codes that a service's model lacks; AWS itself uses such codes.
        warnings.filterwarnings("ignore", module="moto.core.serialize")
        moto_overrides.install()
        self._moto = Dispatcher()

    def __call__(self, environ: authorization.Environ, start: Any) -> Iterable[bytes]:
        body = _body(environ)
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith(CONTROL):
            return _control(environ, body)(environ, start)
        call = authorization.identify(environ, body)
        if call is None:
            return list(self._moto(environ, start))  # an unsigned request: S3's pre-signed ones
        STATE.calls.append(call)
        try:
            authorization.authorize(STATE, call)
            if call.key in STATE.settings.accounts:
                environ["HTTP_X_MOTO_ACCOUNT_ID"] = STATE.settings.accounts[call.key]
            answer = lateness.apply(
                call, environ, body, lambda changed: self._answer(call, changed)
            )
        except ServiceException as error:
            answer = authorization.render(error, call, environ)
        if found := witness.differences(call, answer):
            answer = authorization.render(_defect(found), call, environ)
        return answer(environ, start)

    def _answer(self, call: ApiCall, environ: authorization.Environ) -> Response:
        """Return the answer that a test states, or that moto gives."""
        if call.name in _PARALLEL:
            return self._ask_moto(call, environ)
        body = environ["wsgi.input"].getvalue()
        dry_run_changes_nothing(call, body)
        stated = (
            price_list.get_products(answers.fields(body))
            if call.name == "pricing:GetProducts"
            else answers.stated(call, body)
        )
        if stated is not None:
            return authorization.render(stated, call, environ)
        with STATE.lock:
            return answers.same_token_same_answer(call, body, lambda: self._ask_moto(call, environ))

    def _ask_moto(self, call: ApiCall, environ: authorization.Environ) -> Response:
        try:
            answer = Response.from_app(self._moto, environ, buffered=True)
            return answers.without_nulls(answer) if call.service in ("budgets", "kms") else answer
        except NotImplementedError:  # no SDK retries a 501
            raise ApiError(
                "UnsupportedOperation", f"the emulator does not implement {call.name}", 501
            ) from None
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise _defect([f"{call.name}: {error!r}"]) from error


@rule
def dry_run_changes_nothing(call: ApiCall, body: bytes) -> None:
    """A call of EC2 with DryRun is refused even if the caller may do it, and does nothing."""
    if call.service == "ec2" and re.search(rb"(?:^|&)DryRun=true", body):
        raise ApiError(
            "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412
        )


def _defect(lines: list[str]) -> ApiError:
    """Note what is wrong with the emulator, and return what the caller is told."""
    STATE.defects += lines
    return ApiError("EmulatorDefect", "; ".join(lines), 501)


def _body(environ: authorization.Environ) -> bytes:
    """Return the request's body, decompressed: SDKs compress large requests to CloudWatch. S3 keeps
    objects as they were sent."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ.get("HTTP_CONTENT_ENCODING") == "gzip" and "/s3/" not in environ.get(
        "HTTP_AUTHORIZATION", ""
    ):
        body = gzip.decompress(body)
        del environ["HTTP_CONTENT_ENCODING"]
        environ["CONTENT_LENGTH"] = str(len(body))
    return body


def _control(environ: authorization.Environ, body: bytes) -> Response:
    """Return the answer to a request to the control API, which is not an AWS call."""
    command = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix(CONTROL)}"
    answer: object = None
    with STATE.lock:
        if command == "GET calls":
            answer = [asdict(call) for call in STATE.calls]
        elif command == "POST defects":
            answer, STATE.defects = STATE.defects, []
        elif command == "POST reset":
            moto_api_backend.reset()
            STATE.reset()
            lateness.MEMORY.forget()
        elif command == "POST damage":
            answer = ebs_direct.damage(**json.loads(body))
        elif command == "POST write":
            root_volumes.write(**json.loads(body))
        elif command == "PATCH settings":
            merged = {**STATE.settings.model_dump(mode="json"), **json.loads(body)}
            STATE.set(EmulatorSettings.model_validate_json(json.dumps(merged)))
            answer = merged
        else:
            return Response(f"no such control: {command}\n", 404)
    return Response(json.dumps(answer), content_type="application/json")


class _Handler(MotoRequestHandler):
    """moto's handler without a log line for each request: `GET /_emulator/calls` lists them."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """Close the connection that a rule of `lateness` broke; otherwise the client waits for the
        answer."""
        self.close_connection = True


def make(port: int) -> BaseWSGIServer:
    """Return a server that listens on loopback (port 0: the kernel chooses)."""
    return make_server(
        "127.0.0.1", port, EmulatorApplication(), threaded=True, request_handler=_Handler
    )
