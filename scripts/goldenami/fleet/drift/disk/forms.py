"""Forms of what cloud-init and an engine write, and root reads: a file has to be one that they
write of this launch."""

from __future__ import annotations

import contextlib
import gzip
import io
import ipaddress
import json
import pickle
import posixpath
import re
import zlib
from collections.abc import Callable, Mapping
from email import message_from_bytes
from typing import Any, ClassVar

import yaml

from goldenami.fleet.drift.disk.neighbours import Neighbours
from goldenami.local.reader.path_state import PathState

Form = Callable[[PathState, Neighbours], str]
"""What of a file is not as it is written; empty where all is."""
_NOT_WRITTEN = "not what cloud-init writes"


class _Strict(yaml.SafeLoader):
    """YAML in which no key stands twice: of two, other readers take the other one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(map(str, keys))):
            raise yaml.YAMLError("a key stands twice")
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> object:
    try:
        return yaml.load(text, Loader=_Strict)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _fits(value: object, shape: object) -> bool:
    """Whether a value has no more than its shape: keys by regular expression, lists of one shape,
    texts by theirs."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(any(
            re.fullmatch(name, str(key)) and _fits(each, below) for name, below in shape.items())
            for key, each in value.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(each, shape[0]) for each in value)
    return not isinstance(value, (dict, list)) and re.fullmatch(str(shape), str(value)) is not None


_ADDRESS, _TABLE = r"(?!169\.254\.|127\.|f[ef])[0-9a-f.:]+", r"1\d\d"
_NETWORK = _ADDRESS + r"/(1[6-9]|2\d|64|80|128)"
"""A subnet of EC2: nothing larger, and no address of the machine or of the metadata service."""
_INTERFACE = {
    "dhcp[46]": "True|False",
    "dhcp[46]-overrides": {"route-metric": r"\d+00", "use-routes": "True"},
    "match": {"macaddress": "([0-9a-f]{2}:){5}[0-9a-f]{2}"}, "set-name": r"\w+",
    "addresses": [_NETWORK],
    "routes": [{"to": rf"{_NETWORK}|0\.0\.0\.0/0", "via": _ADDRESS, "table": _TABLE}],
    "routing-policy": [{"from": _ADDRESS, "table": _TABLE}]}
_NETPLAN = {"network": {"version": "2", "ethernets": {r"\w+": _INTERFACE}}}
"""DataSourceEc2.convert_ec2_metadata_network_config: no name server, no tunnel, no gateway but that
of a subnet."""


def netplan(found: PathState, _: Neighbours) -> str:
    """Interfaces by DHCP, and EC2's further addresses and interfaces."""
    read = _yaml(found.text or "")
    if not isinstance(read, Mapping) or not _fits(read, _NETPLAN):
        return _NOT_WRITTEN
    interfaces = list((read.get("network") or {}).get("ethernets", {}).values())
    for routes in [interface.get("routes", []) for interface in interfaces]:
        gateways = [route["via"] for route in routes if "via" in route]
        try:
            firsts = [str(ipaddress.ip_network(route["to"])[1]) for route in routes
                      if "via" not in route]
        except (ValueError, KeyError, IndexError):
            return _NOT_WRITTEN
        if routes and (len(interfaces) == 1 or not set(gateways) <= set(firsts)):
            return "a route that is no subnet's"
    return ""


def _given(near: Neighbours) -> list[bytes]:
    """The launch's user data and its parts: what cloud-init runs as root of it, and nothing else
    may be there."""
    data = near.launch.user_data or b""
    raw = data
    with contextlib.suppress(OSError, EOFError, zlib.error):
        raw = gzip.decompress(data)
    parts = [part.get_payload(decode=True) for part in message_from_bytes(raw).walk()
             if not part.is_multipart()]
    return [b"", data, raw, *(part for part in parts if isinstance(part, bytes))]


def _config(near: Neighbours) -> dict[str, Any]:
    """What the launch's parts configure, later ones first, as cloud-init merges them by default."""
    found: dict[str, Any] = {}
    for part in _given(near):
        read = _yaml(part.decode("utf-8", "replace")) if part.startswith(b"#cloud-config") else None
        found |= read if isinstance(read, dict) else {}
    return found


def _line(command: object) -> str:
    """A line of runcmd's script, as cloud-init writes it (util.shellify)."""
    if isinstance(command, list):
        return " ".join("'" + str(word).replace("'", "'\\''") + "'" for word in command) + "\n"
    return "" if command is None else f"{command}\n"


def user_data(found: PathState, near: Neighbours) -> str:
    """A part of the launch's user data, or what cloud-init makes of its `runcmd` and
    configuration."""
    text = found.text or ""
    given = _given(near)
    unix = [part.replace(b"\r\n", b"\n") for part in given]
    plain = [*given, *unix, *(part.removeprefix(b"#cloud-boothook").lstrip() for part in unix)]
    commands = _config(near).get("runcmd")
    script = "#!/bin/sh\n" + "".join(map(_line, commands if isinstance(commands, list) else []))
    if text.encode("utf-8", "surrogateescape") in plain or text == script:
        return ""
    if text.startswith("#cloud-config") and (read := _yaml(text)) and read == _config(near):
        return ""
    return "not of the launch's user data" if near.launch.user_data is not None else \
        "root runs it as the launch's user data, which is not known here"


_CLASSES = re.compile(
    r"cloudinit\.(sources\.(DataSourceEc2\.DataSourceEc2(Local)?|NicOrder|HotplugRetrySettings)"
    r"|distros\.(debian|ubuntu)\.Distro|distros\.networking\.LinuxNetworking|distros\.package_management\.\w+\.(Apt|Snap)"
    r"|helpers\.(Paths|Runners)|net\.(dhcp\.(Dhcpcd|IscDhclient|Udhcpc)|netops\.iproute2\.Iproute2)"
    r"|user_data\.UserDataProcessor|event\.(EventScope|EventType))"
    r"|email\.(mime\.(multipart\.MIMEMultipart|base\.MIMEBase|text\.MIMEText|nonmultipart\.MIMENonMultipart)"
    r"|_policybase\.Compat32|message\.Message|charset\.Charset)")
_NAMES = re.compile(
    "sys_cfg|distro|paths|cfgs|(cloud|docs|run|seed)_dir|instance_link|boot_finished|template_tpl|lookups|datasource|name"
    "|networking|dhcp_client_priority|net_ops|_?runner|sems|package_managers|apt(_get)?(_command|_upgrade_subcommand)?"
    "|environment|_dhcp_client|_fallback_(interface|nic_order)|is_linux|osfamily|(default|system)_locale|apt|snap"
    "|_(paths|cfg|ci_pkl_version)|policy|_headers|_unixfrom|_payload|_?charset|preamble|epilogue|defects|_default_type"
    "|(user|vendor)data2?(_raw)?|metadata(_address)?|network_json|(_crawled|ec2)_metadata|ds_cfg|ud_proc|ssl_details"
    "|identity|_(cloud_name|dirty_cache|platform_type|api_token|subplatform|network_config|fallback_interface)"
    "|extra_hotplug_udev_rules|hotplug_retry_settings|_preferred_ntp_clients|default_update_events|supported_update_events"
    "|(input|header_encoding|body_encoding|output|input_codec|output_codec)(_charset)?")
"""Classes and attributes of what cloud-init 22.4 to 25.1 pickles on EC2, on Debian and Ubuntu."""
_FOREIGN = re.compile(r"/(?!(var/lib|etc|run|usr/share/doc)/cloud|dev/|bin/(ba)?sh|$)|.*\.\./")
"""A path that is none of cloud-init's."""

_USER_DATA = ("userdata_raw", "vendordata_raw", "vendordata2_raw", "_payload")


class _Held:
    """Stands for an object of the pickle: keeps what it has, and does nothing."""

    state: object = None

    def __new__(cls, *_: object) -> _Held:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state


def _unhashable(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Tuples become lists: as keys within one another they would take a hash without end."""
    def loaded(reader: Any) -> None:
        load(reader)
        reader.stack[-1] = list(reader.stack[-1])
    return loaded


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: _unhashable(load) if load.__name__.startswith("load_tuple") else load
        # Takes memory first.
        for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def find_class(self, module: str, name: str) -> type[_Held]:
        if not _CLASSES.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it runs {module}.{name}")
        return _Held


def pickled(found: PathState, near: Neighbours) -> str:
    """The data source that cloud-init keeps, and Python would run: its classes alone, the launch's
    data alone."""
    try:
        left: list[object] = [
            _Unpickler(io.BytesIO((found.text or "").encode("utf-8", "surrogateescape"))).load()
        ]
    except Exception as error:  # a pickle may raise anything
        return f"{_NOT_WRITTEN}: {error}"
    given, seen = _given(near), set[int]()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _Held):
            if value.state is None:
                continue
            if not isinstance(value.state, dict) or not all(
                _NAMES.fullmatch(str(key)) for key in value.state
            ):
                return f"{_NOT_WRITTEN}: an attribute of no data source"
            if not all(_is_given(value.state.get(key), given) for key in _USER_DATA):
                return "user data that is not the launch's"
            left.append(value.state)
        elif isinstance(value, dict):
            if not _is_given(value.get("user-data"), given):
                return "user data that is not the launch's"
            # Has what was configured.
            left += [each for key, each in value.items() if key not in ("sys_cfg", "_cfg")]
        elif isinstance(value, (list, tuple)):
            left += value
        elif isinstance(value, str) and _FOREIGN.match(value):
            return f"{_NOT_WRITTEN}: {value[:40]}"
    return ""


def _is_given(value: object, given: list[bytes]) -> bool:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return not isinstance(value, bytes) or value in given


def authorized(found: PathState, near: Neighbours) -> str:
    """The key of the launch, where EC2 says which that is and user data names no other."""
    keys = [word for word in (found.text or "").split() if word.startswith("AAAA")]
    known = (near.launch.key or "").split()
    return "a key that is not the launch's" if known and near.launch.user_data == b"" and any(
        key not in known for key in keys) else ""


_CONFINED = {"Privileged": "False", "CapAdd": "None", "Devices": "None", "SecurityOpt": "None",
             "PidMode": "",
             "UsernsMode": "", "CgroupParent": "", "VolumesFrom": "None",
             "DeviceCgroupRules": "None",
             "Runtime": "runc"}
"""Of hostconfig.json, what an ordinary container has."""
_SHARED = re.compile(r"/(home/[^/]+/.+|(data|scratch|srv|mnt)(/.+)?|var/lib/docker/volumes/.+)")
"""Folders of the machine that a container may have without root's rights there."""


def _json(text: str) -> Any:
    """JSON as Go reads it, where the case of a key says nothing; ValueError where one stands
    twice."""
    def folded(rows: list[tuple[str, Any]]) -> dict[str, Any]:
        found = {key.casefold(): value for key, value in rows}
        if len(found) != len(rows):
            raise ValueError("a key stands twice")
        return found

    return json.loads(text, object_pairs_hook=folded)


def container(found: PathState, near: Neighbours) -> str:
    """One that the engine starts by itself may do nothing that root on the machine may."""
    folder = found.path.rpartition("/")[0]
    try:
        host = _json(near.text(f"{folder}/hostconfig.json"))
        mounts = _json(near.text(f"{folder}/config.v2.json")).get("mountpoints") or {}
        if (host.get("restartpolicy") or {}).get("name") in (None, "", "no"):
            return ""
        plain = host.get("readonlypaths") != [] and all(
            str(host.get(key.casefold()) or want) == want for key, want in _CONFINED.items())
        sources = [str(mount.get("source") or "/var/lib/docker/volumes/x")
                   for mount in mounts.values()]
        sources += [bind.split(":")[0] for bind in host.get("binds") or [] if bind.startswith("/")]
        shared = all(_SHARED.fullmatch(posixpath.normpath(each)) and not near.has_link(each)
                     for each in sources)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return "no configuration of a container"
    return "" if plain and shared else "the engine starts it by itself, with root's rights"


def volume(found: PathState, _: Neighbours) -> str:
    """One that is no folder of the machine."""
    try:
        device = str((_json(found.text or "") or {}).get("mountdevice") or "")
    except (ValueError, AttributeError, RecursionError):
        return "no options of a volume"
    is_folder = device.startswith("/")
    return "it is a folder of the machine, which no list of mounts shows" if is_folder else ""


def unstarted(found: PathState, _: Neighbours) -> str:
    """What containerd knows of containers, without the label by which it starts one by itself."""
    restarts = "containerd.io/restart." in (found.text or "")
    return "containerd starts a container by itself" if restarts else ""


FORMS: dict[str, Form] = {
    "netplan": netplan, "user data": user_data, "pickle": pickled, "key": authorized,
    "container": container,
    "volume": volume,
    "unstarted": unstarted}
