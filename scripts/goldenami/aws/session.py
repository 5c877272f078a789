"""One AWS account: its clients by service and region, and AWS's errors translated into ours.

Credentials, profile and endpoint come from the environment, as with every AWS tool (AWS_PROFILE,
AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from botocore import exceptions as aws

from goldenami.aws import error_kinds, refusals, tags
from goldenami.core import clock
from goldenami.core.errors import BadInput, GoldenError, HostNotReady, Unreachable
from goldenami.core.terminal.progress import LongWait, tell
from goldenami.core.wait import pause
from goldenami.core.yaml_lines import nearest
from goldenami.model.operation.residency import WORLDWIDE, AllowedRegions

Client = Any
"""A boto3 client. boto3 builds its methods at run time from the service's model, so there is no
type to name."""

MAX_ATTEMPTS = 10
"""Tries of one call. botocore's standard retries back off with jitter up to 20 s. With its default
of 3 tries the third throttle in a row is final (measured); with 10, if 30 % of calls are throttled,
one in 10^5 fails."""
RETRIED_BY_CALLERS = frozenset({"ebs"})
"""Services whose callers retry by themselves, for 300 s and more. Retries by the client below them
would drain the retry quota that its threads share (500 tokens, 5 a retry), and sleep for up to 20 s
after EBS is back."""
CONNECT_S, READ_S = 10, 60
"""Seconds without a connection, or without a byte, after which a try has failed. RegisterImage
answers within seconds."""
SHORT_ATTEMPTS = 4
"""Tries with short timeouts if the region fails the call, or refuses or breaks the connection: at
most seven seconds of pauses."""
SILENCE_S = 7.0
"""The short timeout: seconds without a connection, or without a byte, after which a region hangs.
AWS answers within a second even from the other side of the world. The kernel counts the seconds
from when the request is on its way, so an answer that a busy machine has not read yet is in time.
"""
PRESSURE, STARVED_PERCENT = Path("/proc/pressure/cpu"), 90.0
"""The kernel's file of pressure stalls, and the percentage of time that processes wait for a CPU
above which this machine counts as starved."""
_ONCE = ContextVar("once", default=False)
"""Whether calls are made once, whatever AWS answers."""
PRICE_LIST_REGION = "us-east-1"
_REGION = "golden_region"
"""Key under which an error carries its region, which botocore's errors do not name."""
_WAIT = "golden_wait"
"""Key in a request's context for the LongWait since the request's first refusal."""
FIRST_AGAIN_S, MOST_AGAIN_S = 0.5, 8.0
"""Pauses in seconds before a refused call is repeated: the first, and the longest."""
CLIENT_HOOKS: list[Callable[[Client, str], None]] = []
"""Functions that get each new client, with its region, before its first call."""
POOL = 64
"""Connections kept open to one service: one for each block that an upload has in flight."""


@dataclass(frozen=True)
class Account:
    """The account that the environment's credentials belong to.

    A client is made once for each service and region; threads may share it. `allowed` are the
    regions that it makes clients for (`Checkout.account` knows them). `tags` are those that the
    company demands on everything that is created. With `has_short_timeouts` its clients soon give
    up a region that does not answer, refuses connections or fails.
    """

    allowed: AllowedRegions
    tags: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    has_short_timeouts: bool = False
    _clients: dict[tuple[str, str], Client] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _quick: list[Account] = field(default_factory=list, repr=False, compare=False)
    _sessions: list[Any] = field(default_factory=list, repr=False, compare=False)

    def tester(self) -> Account:
        """The account with the profile for GPU tests. Publishers' own credentials may not write the
        records of these tests."""
        return Account(self.allowed, self.tags, os.environ.get("GOLDEN_TEST_PROFILE") or None)

    def client(self, service: str, region: str) -> Client:
        """Return the client of `service` in `region`; nothing is sent yet.

        Raises BadInput for a region that is not allowed. Every call to AWS passes here.
        """
        if service not in WORLDWIDE:
            self.allowed.require(region)
        with self._lock:  # boto3's sessions, unlike its clients, are not thread-safe
            if (service, region) not in self._clients:
                client = self._make_client(service, region)
                self._register_handlers(client, region)
                self._clients[service, region] = client
            return self._clients[service, region]

    def _make_client(self, service: str, region: str) -> Client:
        try:
            with translated():
                return self._session.client(
                    service, region_name=region, config=self._config(service)
                )
        except ValueError as error:
            raise BadInput(
                f"AWS: {error}", hint="correct AWS_ENDPOINT_URL: http://HOST:PORT"
            ) from None

    def _register_handlers(self, client: Client, region: str) -> None:
        """Hook our handlers into botocore: regions on errors, retries, and the company's tags."""

        def refused(parsed: dict[str, Any], **_: Any) -> None:
            parsed.setdefault("ResponseMetadata", {})[_REGION] = region

        def failed(exception: Any, **_: Any) -> None:
            setattr(exception, _REGION, region)

        client.meta.events.register("after-call", refused)
        client.meta.events.register("after-call-error", failed)
        # Under the service's name and first, as botocore's own handler is registered so: the first
        # handler that returns something decides.
        retry = f"needs-retry.{client.meta.service_model.service_id.hyphenize()}"
        if self.has_short_timeouts:
            client.meta.events.register_first(retry, partial(_give_up, region))
        client.meta.events.register_first(retry, partial(_ask_again, client))
        client.meta.events.register("before-parameter-build", partial(_add_tags, self.tags))
        for hook in CLIENT_HOOKS:
            hook(client, region)

    def with_short_timeouts(self) -> Account:
        """The same account with short timeouts, for code that only reads: a region that does not
        answer is given up within ten seconds.

        A region that throttles does answer, and is asked as often as with long timeouts.
        """
        if self.has_short_timeouts:
            return self
        with self._lock:
            if not self._quick:
                self._quick.append(replace(self, has_short_timeouts=True, _clients={}))
            return self._quick[0]

    def _config(self, service: str) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - 0.1 s that most commands need not wait for

        tries = 1 if service in RETRIED_BY_CALLERS else MAX_ATTEMPTS
        timeouts: dict[str, float] = {"connect_timeout": CONNECT_S, "read_timeout": READ_S}
        if self.has_short_timeouts:
            timeouts = dict.fromkeys(timeouts, SILENCE_S)
        return Config(
            retries={"mode": "standard", "total_max_attempts": tries},
            **timeouts,
            max_pool_connections=POOL,
            user_agent_extra="goldenami",
        )

    @property
    def _session(self) -> Any:
        """The session of all clients, those with short timeouts included. Call it under the lock,
        which they share.
        """
        import boto3  # noqa: PLC0415 - 0.2 s that `golden lock` need not wait for

        # One session reads EC2's model, a second of work, once and not for each region: 17 sessions
        # took 5.9 s of CPU time and 363 MB.
        if not self._sessions:
            self._sessions.append(boto3.Session(profile_name=self.profile))
        return self._sessions[0]

    def ec2(self, region: str) -> Client:
        return self.client("ec2", region)

    def ebs(self, region: str) -> Client:
        return self.client("ebs", region)

    def ssm(self, region: str) -> Client:
        return self.client("ssm", region)

    def autoscaling(self, region: str) -> Client:
        return self.client("autoscaling", region)

    def dynamodb(self, region: str) -> Client:
        return self.client("dynamodb", region)

    def s3(self, region: str) -> Client:
        return self.client("s3", region)

    def bucket(self, name: str) -> Client:
        """The S3 client for a bucket. Raises BadInput if the bucket's region is not allowed."""
        near = self.s3(self.home)
        # S3 redirects a client of another region to the bucket's own, so any region will do as long
        # as all are allowed.
        if not self.allowed.rules:
            return near
        try:
            headers = near.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
        except aws.ClientError as error:
            # HeadBucket names the region even to those who may not read the bucket.
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            if "x-amz-bucket-region" not in headers:
                raise
        return self.s3(headers.get("x-amz-bucket-region", near.meta.region_name))

    def kms(self, region: str) -> Client:
        return self.client("kms", region)

    def sts(self, region: str) -> Client:
        return self.client("sts", region)

    def pricing(self) -> Client:
        """The price list's client. Few regions serve the price list."""
        return self.client("pricing", PRICE_LIST_REGION)

    @property
    def home(self) -> str:
        """The region for questions about the account as a whole: the environment's if that is
        allowed, else the first that is."""
        return self.allowed.first([home_region(), *known_regions()]) or home_region()

    def number(self, region: str) -> str:
        """The account's 12-digit number. It is the cheapest call that proves the credentials."""
        with translated(region):
            return str(self.sts(region).get_caller_identity()["Account"])

    def expect(self, number: str | None, region: str) -> str:
        """Return the account's number. Raises HostNotReady if `number`, which the definition pins,
        is another."""
        own_number = self.number(region)
        if number and own_number != number:
            raise HostNotReady(
                f"these credentials are of account {own_number}, and the definition wants {number}",
                hint="choose the profile (AWS_PROFILE), or correct `publish: account:`",
            )
        return own_number


def home_region() -> str:
    """The environment's region, found as every AWS tool does, or else us-east-1."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _add_tags(
    company_tags: Mapping[str, str], params: dict[str, Any], model: Any, **_: Any
) -> None:
    """Add the company's tags to what a call creates. The call's own tags win."""

    def tagged(tag_list: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
        return tags.to_list({**company_tags, **tags.from_list(tag_list)})

    if company_tags and "TagSpecifications" in params:
        params["TagSpecifications"] = [
            {**specification, "Tags": tagged(specification["Tags"])}
            for specification in params["TagSpecifications"]
        ]
    elif company_tags and model.name == "StartSnapshot":
        params["Tags"] = tagged(params["Tags"])
    elif company_tags and model.name == "CreateChangeSet":
        # CloudFormation puts them on the stack and on all that it makes.
        params["Tags"] = tagged(())


def _give_up(
    region: str,
    attempts: int,
    caught_exception: Exception | None,
    response: tuple[Any, dict[str, Any]] | None,
    **_: Any,
) -> bool | None:
    """Decide whether a call with short timeouts is given up.

    Return False to give it up, by which botocore stops retrying; None to leave it to botocore.
    Raises Unreachable for a region that hangs.
    """
    if isinstance(caught_exception, (aws.ReadTimeoutError, aws.ConnectTimeoutError)):
        # The timeout may be this machine's fault: then only the second one counts.
        if attempts == 1 and _is_starved():
            return None
        raise Unreachable(
            f"AWS did not answer in {region} for {SILENCE_S:.0f} s",
            hint="the region hangs: ask it again later",
        )
    is_down = response is None or _is_failure(response[1])
    if is_down and attempts >= SHORT_ATTEMPTS:
        return False
    return None


def _ask_again(
    client: Client,
    response: tuple[Any, dict[str, Any]] | None,
    operation: Any,
    request_dict: dict[str, Any],
    **_: Any,
) -> int | None:
    """Decide by `refusals` whether botocore repeats a call.

    Return 0 to repeat it at once, which is after a pause here; False to give it up, since only
    another call may be granted; None to leave it to botocore.
    """
    # False matters, as EC2 reports a lack of capacity with the status of a failure, and botocore
    # would repeat that.
    code = response[1].get("Error", {}).get("Code", "") if response else ""
    refusal = refusals.find(operation.name, code) if code and not _ONCE.get() else None
    if refusal is None or not refusal.limit_s:
        return False if refusal else None
    notice = f"AWS refuses {operation.name} in {client.meta.region_name}: {code}"
    if _WAIT not in request_dict["context"]:
        tell("wait", f"{notice}. It is asked again for up to {refusal.limit_s:.0f} s")
    wait = request_dict["context"].setdefault(_WAIT, LongWait())
    wait.tell(notice)
    waited = time.monotonic() - wait.began
    if waited >= refusal.limit_s:
        return None
    pause(min(refusal.limit_s - waited, FIRST_AGAIN_S + waited, MOST_AGAIN_S))
    return 0


def _is_starved() -> bool:
    """Whether processes on this machine wait for a CPU nearly all the time, which alone may make an
    answer late."""
    try:
        text = PRESSURE.read_text(encoding="utf-8")
    except OSError:  # a kernel without pressure stall information
        return False
    return float(text.partition("avg10=")[2].partition(" ")[0] or 0) > STARVED_PERCENT


def check_regions(regions: Iterable[str]) -> None:
    """Raise BadInput for a region that does not exist, naming the nearest that does."""
    existing = known_regions()
    for region in regions:
        if region not in existing:
            raise BadInput(
                f"unknown region `{region}`; {nearest(region, existing)}",
                hint="correct `--region`, AWS_REGION or the definition's `publish: "
                "regions:`; a region "
                "newer than the pinned botocore needs a newer one in requirements/",
            )


@cache
def known_regions() -> list[str]:
    """Every region of EC2 in every partition, by botocore's list."""
    # Its data file is read directly, because importing botocore's code takes 0.2 s.
    text = files("botocore").joinpath("data/endpoints.json").read_text(encoding="utf-8")
    regions = list[str]()
    for partition in json.loads(text)["partitions"]:
        regions += [
            name
            for name in partition["services"]["ec2"]["endpoints"]
            if name in partition["regions"]
        ]
    return regions


@contextmanager
def asked_once() -> Iterator[None]:
    """Within the context a refusal is the answer, also one that `refusals` says will pass."""
    token = _ONCE.set(True)
    try:
        yield
    finally:
        _ONCE.reset(token)


@contextmanager
def translated(region: str = "") -> Iterator[None]:
    """Turn botocore's exceptions into the matching GoldenError within the context."""
    try:
        yield
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise translate(error, region) from error


def code(error: aws.ClientError) -> str:
    """AWS's code of the error, such as `InvalidAMIID.NotFound`, or "" if it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: Exception, region: str = "") -> GoldenError:
    """Translate AWS's or botocore's error into ours, which names the action, the region and what to
    do.

    A GoldenError is returned as it is. Any other exception is a defect and is raised.
    """
    if isinstance(error, GoldenError):
        return error
    region = _region_of(error) or region
    where = f" in {region}" if region else ""
    if isinstance(error, aws.ClientError):
        # EC2 appends an encoded text that only `aws sts decode-authorization-message` can read.
        text = (
            str(error.response.get("Error", {}).get("Message", ""))
            .partition(" Encoded authorization failure")[0]
            .rstrip(".")
        )
        meaning = _kind_of(error, text)
        quota = next(
            (remedy for name, remedy in error_kinds.QUOTAS if code(error).endswith(name)),
            "remove what is not needed",
        )
        row = refusals.find(error.operation_name, code(error))
        names = {
            "action": _action(error, text),
            "where": where,
            "code": code(error),
            "text": text,
            "quota": quota,
            "row_hint": row.hint if row else "",
        }
        return meaning.kind(meaning.message.format(**names), hint=meaning.hint.format(**names))
    for types, kind, message, hint in error_kinds.LOCAL:
        if isinstance(error, types):
            return kind(message.format(str(error).rstrip("."), where=where), hint=hint)
    raise error


def _region_of(error: Exception) -> str:
    if isinstance(error, aws.ClientError):
        return str(error.response.get("ResponseMetadata", {}).get(_REGION, ""))
    return str(vars(error).get(_REGION, ""))


def _kind_of(error: aws.ClientError, text: str) -> error_kinds.ErrorKind:
    # These codes mean wrong credentials, unless the clock is off.
    if code(error) in error_kinds.TIMED and _is_skewed(error):
        return error_kinds.CLOCK
    # Its code is that of missing rights, so the text is asked before KINDS.
    if error_kinds.NO_EXPLORER_TEXT in text.lower():
        return error_kinds.NO_EXPLORER
    for kind in error_kinds.KINDS:
        if code(error) in kind.codes:
            return kind
    for kind, fits in (
        (error_kinds.LIMIT, error_kinds.QUOTA.search(code(error))),
        (error_kinds.NOT_NOW, refusals.find(error.operation_name, code(error))),
        (error_kinds.FAILED, _is_failure(error.response)),
        (error_kinds.REFUSED, error_kinds.MISTAKE.search(code(error))),
    ):
        if fits:
            return kind
    return error_kinds.UNCLEAR


def _is_failure(parsed: Mapping[str, Any]) -> bool:
    """Whether AWS failed, by the status of its answer. A throttle is no failure, even as 503."""
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return bool(status >= 500) and parsed.get("Error", {}).get("Code") not in error_kinds.THROTTLED


def _is_skewed(error: aws.ClientError) -> bool:
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return bool(date) and abs(parsedate_to_datetime(date) - clock.now()) > error_kinds.SKEW


def _action(error: aws.ClientError, text: str) -> str:
    """The IAM action that the error's text names, which may differ from the call's, or else the
    call's name."""
    action = re.search(r"perform: ([a-z0-9-]+:[A-Za-z]+)", text)
    return action[1] if action else str(error.operation_name)
