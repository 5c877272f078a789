"""One AWS account: clients by service and region, and AWS's errors as goldenami's own.

Credentials, profile and endpoint come from the environment as with every AWS tool (AWS_PROFILE,
AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
"""Tries of one call. Standard retries back off with jitter to 20 s; with the default of 3 the third
throttle in a row is final (measured), with 10 a call fails once in 10^5 where 30 % are
throttled."""
RETRIED_BY_CALLERS = frozenset({"ebs"})
"""Services whose callers have a patience of their own, for 300 s. Retries of the client below it
would drain the quota that its threads share (500, of which each takes 5), and sleep for up to 20 s
after EBS is back."""
CONNECT_S, READ_S = 10, 60
"""Seconds without a connection or a byte after which a try has failed; RegisterImage answers within
seconds."""
HASTY_ATTEMPTS = 4
"""Tries of a call that a region fails, or whose connection it refuses or breaks: at most seven
seconds of pauses."""
SILENCE_S = 7.0
"""Seconds without a connection or a byte after which a region that is only looked at hangs: AWS
answers within a second, from the other side of the world too. The kernel counts them, from when the
request is on its way: an answer that a busy machine has not come to read yet is there."""
PRESSURE, STARVED_PERCENT = Path("/proc/pressure/cpu"), 90.0
PRICE_LIST_REGION = "us-east-1"
_REGION = "golden_region"
"""What an error's region is noted under: botocore's errors do not say it."""
_WAIT = "golden_wait"
"""Under which a request's context has how long it was refused."""
FIRST_AGAIN_S, MOST_AGAIN_S = 0.5, 8.0
"""Pauses in seconds before what passes is asked again: the first, and the longest."""
POOL = 64
"""Connections kept open to one service: the upload's number in flight must find one each."""


@dataclass(frozen=True)
class Account:
    """The account that the environment's credentials belong to.

    A client is made once for each service and region; threads may share it. `is_hasty`: it gives
    up where a region is silent, refuses or fails. `allowed` are the regions that it has clients
    for: `Checkout.account` knows them. `tags` are what the company demands on all that it makes.
    """

    allowed: AllowedRegions
    tags: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    is_hasty: bool = False
    _clients: dict[tuple[str, str], Client] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _hasty: list[Account] = field(default_factory=list, repr=False, compare=False)
    _sessions: list[Any] = field(default_factory=list, repr=False, compare=False)

    def tester(self) -> Account:
        """As what tests on a GPU act: publishers may not write the records of these."""
        return Account(self.allowed, self.tags, os.environ.get("GOLDEN_TEST_PROFILE") or None)

    def client(self, service: str, region: str) -> Client:
        """The client of `service` in `region`; nothing is sent yet.

        BadInput for a region that is not allowed: all that reaches AWS passes here.
        """
        if service not in WORLDWIDE:
            self.allowed.require(region)
        with self._lock:  # boto3's sessions, unlike its clients, are not safe to share by threads
            if (service, region) not in self._clients:
                client = self._made(service, region)
                self._listen(client, region)
                self._clients[service, region] = client
            return self._clients[service, region]

    def _made(self, service: str, region: str) -> Client:
        try:
            with translated():
                return self._session.client(
                    service, region_name=region, config=self._config(service)
                )
        except ValueError as error:
            raise BadInput(
                f"AWS: {error}", hint="correct AWS_ENDPOINT_URL: http://HOST:PORT"
            ) from None

    def _listen(self, client: Client, region: str) -> None:
        """Note of an error whose it is; where this is hasty, give up a region that does not
        answer."""

        def is_hopeless(
            attempts: int,
            caught_exception: Exception | None,
            response: tuple[Any, dict[str, Any]] | None,
            **_: Any,
        ) -> bool | None:
            """False, which is botocore's word for trying no more; None leaves it to botocore."""
            if isinstance(caught_exception, (aws.ReadTimeoutError, aws.ConnectTimeoutError)):
                if attempts == 1 and _is_starved():
                    return None
                raise Unreachable(
                    f"AWS did not answer in {region} for {SILENCE_S:.0f} s",
                    hint="the region hangs: ask it again later",
                )
            is_down = response is None or _is_failure(response[1])
            return False if is_down and attempts >= HASTY_ATTEMPTS else None

        def refused(parsed: dict[str, Any], **_: Any) -> None:
            parsed.setdefault("ResponseMetadata", {})[_REGION] = region

        def failed(exception: Any, **_: Any) -> None:
            setattr(exception, _REGION, region)

        client.meta.events.register("after-call", refused)
        client.meta.events.register("after-call-error", failed)
        # before botocore's own, which is registered by the service's name, too
        retry = f"needs-retry.{client.meta.service_model.service_id.hyphenize()}"
        if self.is_hasty:
            client.meta.events.register_first(retry, is_hopeless)
        client.meta.events.register_first(retry, partial(_ask_again, client))
        client.meta.events.register("before-parameter-build", partial(_add_tags, self.tags))

    def with_short_timeouts(self) -> Account:
        """The same account for what only looks: who does not answer is known within ten seconds.

        A region that throttles does answer: it is asked as often as without haste.
        """
        if self.is_hasty:
            return self
        with self._lock:
            if not self._hasty:
                self._hasty.append(replace(self, is_hasty=True, _clients={}))
            return self._hasty[0]

    def _config(self, service: str) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - 0.1 s that most commands need not wait for

        tries = 1 if service in RETRIED_BY_CALLERS else MAX_ATTEMPTS
        connect_s, read_s = (SILENCE_S, SILENCE_S) if self.is_hasty else (CONNECT_S, READ_S)
        return Config(
            retries={"mode": "standard", "total_max_attempts": tries},
            connect_timeout=connect_s,
            read_timeout=read_s,
            max_pool_connections=POOL,
            user_agent_extra="goldenami",
        )

    @property
    def _session(self) -> Any:
        """One for all clients, also those of little patience: it reads EC2's model, a second of
        work, once and not for each region (17 sessions took 5.9 s of processor and 363 MB). Called
        under the lock, which they share.
        """
        import boto3  # noqa: PLC0415 - 0.2 s that `golden lock` need not wait for

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
        """S3's client for a bucket. S3 sends a client of another region to the bucket's own, so any
        region is a place to begin; where not all are allowed, the bucket's own has to be."""
        near = self.s3(self.home)
        if not self.allowed.rules:
            return near
        try:
            headers = near.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
        except aws.ClientError as error:  # who may not look is told the region, too (HeadBucket)
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            if "x-amz-bucket-region" not in headers:
                raise
        return self.s3(headers.get("x-amz-bucket-region", near.meta.region_name))

    def kms(self, region: str) -> Client:
        return self.client("kms", region)

    def sts(self, region: str) -> Client:
        return self.client("sts", region)

    def pricing(self) -> Client:
        """The price list, which is served from few regions only."""
        return self.client("pricing", PRICE_LIST_REGION)

    @property
    def home(self) -> str:
        """The environment's region where that is allowed, else the first one that is: for
        questions about the account as a whole."""
        return self.allowed.first([home_region(), *known_regions()]) or home_region()

    def number(self, region: str) -> str:
        """The account's 12-digit number; the cheapest proof that credentials are good."""
        with translated(region):
            return str(self.sts(region).get_caller_identity()["Account"])

    def expect(self, number: str | None, region: str) -> str:
        """The account's number; HostNotReady where the definition pins another one."""
        own = self.number(region)
        if number and own != number:
            raise HostNotReady(
                f"these credentials are of account {own}, and the definition wants {number}",
                hint="choose the profile (AWS_PROFILE), or correct `publish: account:`",
            )
        return own


def home_region() -> str:
    """The region that the environment names, as every AWS tool takes it."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _add_tags(own: Mapping[str, str], params: dict[str, Any], model: Any, **_: Any) -> None:
    """Put a company's tags on what a call makes; those that the call names itself come first."""

    def tagged(given: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
        return tags.to_list({**own, **tags.from_list(given)})

    if own and "TagSpecifications" in params:
        params["TagSpecifications"] = [
            {**each, "Tags": tagged(each["Tags"])} for each in params["TagSpecifications"]
        ]
    elif own and model.name == "StartSnapshot":
        params["Tags"] = tagged(params["Tags"])


def _ask_again(
    client: Client,
    response: tuple[Any, dict[str, Any]] | None,
    operation: Any,
    request_dict: dict[str, Any],
    **_: Any,
) -> int | None:
    """0 where the same call may be granted now, after a pause; False where another one may (EC2
    lacks capacity with the status of a failure); None leaves it to botocore."""
    code = response[1].get("Error", {}).get("Code", "") if response else ""
    refusal = refusals.find(operation.name, code) if code else None
    if refusal is None or not refusal.limit_s:
        return False if refusal else None
    said = f"AWS refuses {operation.name} in {client.meta.region_name}: {code}"
    if _WAIT not in request_dict["context"]:
        tell("wait", f"{said}. It is asked again for up to {refusal.limit_s:.0f} s")
    wait = request_dict["context"].setdefault(_WAIT, LongWait())
    wait.tell(said)
    waited = time.monotonic() - wait.began
    if waited >= refusal.limit_s:
        return None
    pause(min(refusal.limit_s - waited, FIRST_AGAIN_S + waited, MOST_AGAIN_S))
    return 0


def _is_starved() -> bool:
    """Whether this machine's processes wait for a processor nearly all the time, which may be all
    that an answer is late for: then silence counts when it was met twice."""
    try:
        text = PRESSURE.read_text(encoding="utf-8")
    except OSError:  # a kernel without it
        return False
    return float(text.partition("avg10=")[2].partition(" ")[0] or 0) > STARVED_PERCENT


def check_regions(regions: Iterable[str]) -> None:
    """BadInput for a region that does not exist, with the nearest that does."""
    known = known_regions()
    for region in regions:
        if region not in known:
            raise BadInput(
                f"unknown region `{region}`; {nearest(region, known)}",
                hint="correct `--region`, AWS_REGION or the definition's `publish: "
                "regions:`; a region "
                "newer than the pinned botocore needs a newer one in requirements/",
            )


@cache
def known_regions() -> list[str]:
    """Every region of EC2 in every partition: botocore's list, without its 0.2 s of code."""
    text = files("botocore").joinpath("data/endpoints.json").read_text(encoding="utf-8")
    found = list[str]()
    for partition in json.loads(text)["partitions"]:
        found += [
            name
            for name in partition["services"]["ec2"]["endpoints"]
            if name in partition["regions"]
        ]
    return found


@contextmanager
def translated(region: str = "") -> Iterator[None]:
    """Within it, what botocore raises becomes the matching GoldenError."""
    try:
        yield
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise translate(error, region) from error


def code(error: aws.ClientError) -> str:
    """AWS's name of the error: `InvalidAMIID.NotFound`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(error: Exception, region: str = "") -> GoldenError:
    """AWS's or botocore's error as ours, naming the action, the region and what to do.

    A GoldenError stays itself; anything else is a defect and is raised as it is.
    """
    if isinstance(error, GoldenError):
        return error
    region = _region_of(error) or region
    where = f" in {region}" if region else ""
    if isinstance(error, aws.ClientError):
        # EC2 appends what only `aws sts decode-authorization-message` reads.
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
    noted = (
        error.response.get("ResponseMetadata", {})
        if isinstance(error, aws.ClientError)
        else vars(error)
    )
    return str(noted.get(_REGION, ""))


def _kind_of(error: aws.ClientError, text: str) -> error_kinds.ErrorKind:
    if code(error) in error_kinds.TIMED and _is_skewed(error):
        return error_kinds.CLOCK
    if error_kinds.NO_EXPLORER_SAID in text.lower():
        return error_kinds.NO_EXPLORER
    for kind in error_kinds.KINDS:
        if code(error) in kind.codes:
            return kind
    return next(
        kind
        for kind, fits in (
            (error_kinds.LIMIT, error_kinds.QUOTA.search(code(error))),
            (error_kinds.NOT_NOW, refusals.find(error.operation_name, code(error))),
            (error_kinds.FAILED, _is_failure(error.response)),
            (error_kinds.REFUSED, error_kinds.MISTAKE.search(code(error))),
            (error_kinds.UNCLEAR, True),
        )
        if fits
    )


def _is_failure(parsed: Mapping[str, Any]) -> bool:
    """Whether an answer says that AWS failed; a throttle may come as 503, and is none."""
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return bool(status >= 500) and parsed.get("Error", {}).get("Code") not in error_kinds.THROTTLED


def _is_skewed(error: aws.ClientError) -> bool:
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return bool(date) and abs(parsedate_to_datetime(date) - clock.now()) > error_kinds.SKEW


def _action(error: aws.ClientError, text: str) -> str:
    """The IAM action as the answer names it (it may be another than the call's), else the
    call's."""
    named = re.search(r"perform: ([a-z0-9-]+:[A-Za-z]+)", text)
    return named[1] if named else str(error.operation_name)
