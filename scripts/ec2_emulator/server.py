"""The server: an application that logs, authorizes and refuses as AWS does, then moto with its
handlers replaced."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

# Else 1,300 alien snapshots are "self"'s.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
# It knows the caller's own AMIs only: `launchable` knows all.
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

from ec2_emulator import answers, authorization, lateness, moto_overrides
from ec2_emulator.rules import ApiError
from ec2_emulator.services import price_list
from ec2_emulator.state import STATE, ApiCall, EmulatorSettings
from ec2_emulator.storage import ebs_direct, root_volumes

CONTROL = "/_emulator/"
"""The control API: GET calls, POST reset, POST damage, POST write, PATCH settings."""

_PARALLEL = frozenset({"ebs:PutSnapshotBlock", "ebs:GetSnapshotBlock"})
"""Calls of which many run at once and whose handlers lock for themselves. moto's own are not safe
for threads."""


class Dispatcher(DomainDispatcherApplication):
    """moto's choice of a service by its host, asked once a host: moto lists its own folder each
    time."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._known: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._known:
            if (
                host
                and "." in host
                and not any(each.match(f"http://{host}") for _, each in self.backend_url_patterns)
            ):
                raise NotImplementedError(host)
            self._known[host] = super().get_backend_for_host(host)
        return self._known[host]


class EmulatorApplication:
    """The WSGI application."""

    def __init__(self) -> None:
        # Codes that a model lacks are AWS's habit.
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
        return answer(environ, start)

    def _answer(self, call: ApiCall, environ: authorization.Environ) -> Response:
        if call.name in _PARALLEL:
            return self._ask_moto(call, environ)
        body = environ["wsgi.input"].getvalue()
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
            return Response.from_app(self._moto, environ, buffered=True)
        except NotImplementedError:  # no SDK retries a 501
            raise ApiError(
                "UnsupportedOperation", f"the emulator does not implement {call.name}", 501
            ) from None
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise ApiError("EmulatorDefect", f"{call.name}: {error!r}", 501) from error


def _body(environ: authorization.Environ) -> bytes:
    """What was sent. SDKs compress large requests to CloudWatch; what S3 is given compressed it
    keeps so."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ.get("HTTP_CONTENT_ENCODING") == "gzip" and "/s3/" not in environ.get(
        "HTTP_AUTHORIZATION", ""
    ):
        body = gzip.decompress(body)
        del environ["HTTP_CONTENT_ENCODING"]
        environ["CONTENT_LENGTH"] = str(len(body))
    return body


def _control(environ: authorization.Environ, body: bytes) -> Response:
    what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix(CONTROL)}"
    answer: object = None
    with STATE.lock:
        if what == "GET calls":
            answer = [asdict(call) for call in STATE.calls]
        elif what == "POST reset":
            moto_api_backend.reset()
            STATE.reset()
            lateness.MEMORY.forget()
        elif what == "POST damage":
            answer = ebs_direct.damage(**json.loads(body))
        elif what == "POST write":
            root_volumes.write(**json.loads(body))
        elif what == "PATCH settings":
            merged = {**STATE.settings.model_dump(mode="json"), **json.loads(body)}
            STATE.set(EmulatorSettings.model_validate_json(json.dumps(merged)))
            answer = merged
        else:
            return Response(f"no such control: {what}\n", 404)
    return Response(json.dumps(answer), content_type="application/json")


class _Handler(MotoRequestHandler):
    """moto's handler without a line for each request: the control API has them."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: Any = None) -> None:
        """A rule of `lateness` broke it; the client would wait for the answer else."""
        self.close_connection = True


def make(port: int) -> BaseWSGIServer:
    """A server that listens on loopback (port 0: the kernel chooses)."""
    return make_server(
        "127.0.0.1", port, EmulatorApplication(), threaded=True, request_handler=_Handler
    )
