"""Every environment variable of goldenami; docs/reference.md is generated from this. `<NAME>`
stands for a family of variables. A layout test fails for a variable that the table lacks."""

from __future__ import annotations

import difflib
import re

PREFIX = "GOLDEN_"

VARIABLES: dict[str, dict[str, str]] = {
    "This machine": {
        "GOLDEN_CACHE": "folder of the store, base trees, compiled modules and timings; default "
        "`~/.cache/goldenami`, or below `XDG_CACHE_HOME`",
        "GOLDEN_LAYERS_GB": "what all layers of bakes may occupy, in 10^9 bytes; default 24",
        "GOLDEN_BOOT_LIMIT_S": "seconds that a boot of `verify` or `shell` may be silent before "
        "SSH; default 600",
        "GOLDEN_MITOGEN": "`0`: Ansible's own strategy instead of mitogen's in a bake",
    },
    "Sources": {
        "GOLDEN_MIRROR_<ARCHIVE>": "URI of an archive: `GOLDEN_MIRROR_DEBIAN`, "
        "`_DEBIAN_SECURITY`, `_UBUNTU`; of a vendor's instead of its own: `_NVIDIA`, "
        "`_NVIDIA_CONTAINER`; of a package index's simple API: `_PYPI`; of a registry of "
        "containers: `_DOCKER_IO`; of NVIDIA's releases.json: `_NVIDIA_RELEASES`; "
        "default: this machine's apt sources and pip's index, the vendor's address",
        "GOLDEN_KEYRING_<NAME>": "file of a keyring: `GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING`, "
        "`_UBUNTU_ARCHIVE_KEYRING`; instead of the key beside a vendor's index, and of the "
        "same fingerprint: `_GOLDEN_NVIDIA`, `_GOLDEN_NVIDIA_CONTAINER`",
        "GOLDEN_STORE_S3": "remote package store, `s3://bucket/prefix`; credentials as with every "
        "AWS tool",
    },
    "Signatures": {
        "GOLDEN_MODULE_KEY": "PEM file of an RSA key and its certificate, with which `lock` signs "
        "kernel modules; unset: they are not signed",
        "GOLDEN_SIGNING_KEY": "ECDSA P-256 key with which `publish` signs where a build comes "
        "from: a file, or the ARN of a key of KMS; unset: unsigned",
    },
    "AWS": {
        "GOLDEN_SSH_FROM": "IPv4 network, such as `203.0.113.7/32`, from which SSH may reach the "
        "instances of `bake --builder ec2`; default: any, with a key of that run only",
        "GOLDEN_TEST_PROFILE": "profile by which `gpu-test` acts, whose role alone may write its "
        "records; default: as all other commands",
    },
    "Notices and results": {
        "GOLDEN_WEBHOOK": "Slack-compatible webhook that is told what `watch`, `drift` and "
        "`digest` found",
        "GOLDEN_SNS_TOPIC": "ARN of an SNS topic that is told the same",
        "GOLDEN_SITE_S3": "where `site` keeps the page over all images and earlier builds, "
        "`s3://bucket/prefix`",
        "GOLDEN_PUSH_URL": "where `watch --propose` pushes, token included; default: the remote "
        "`origin`",
    },
    "Tests of an image": {
        "GOLDEN_VARS": "file of the lock's variables, for the checks of an image",
        "GOLDEN_TIMINGS": "file that the seconds of each role go to",
        "GOLDEN_PCI_DEVICES": "instead of `/sys/bus/pci/devices`, to try a machine with GPUs "
        "without one",
        "GOLDEN_GPU_ROOT": "instead of `/`, likewise",
    },
}
"""Meanings by group and name; groups are in the order of the page. A test caps their number."""

OF_OTHERS = {
    "AWS_<NAME>": "credentials, region and profile, as with the AWS CLI; `AWS_ENDPOINT_URL` names "
    "the emulator",
    "SSL_CERT_FILE": "file with the authorities that apt, pip, skopeo and downloads trust instead "
    "of this machine's",
    "CI": "set: a test whose tool is missing fails instead of being skipped, and `make bake` makes "
    "no new lock (`make test` does: it publishes nothing)",
}
"""Variables of other programs that goldenami reads."""

PIPELINE_SETTINGS = {
    "GOLDEN_PUBLISH_ROLE": "ARN of the role that the pipelines publish with, by OIDC",
    "GOLDEN_TEST_ROLE": "ARN of the role that `gpu-test` acts by there",
    "GOLDEN_TEST_CREDENTIALS": "that role's credentials, for the profile of .ci/aws-config",
    "GOLDEN_PUBLISH_REGION": "region in which GitHub's pipeline takes that role",
    "GOLDEN_UNATTENDED": "`yes`: the daily pipeline releases what it locked, without a person",
    "GOLDEN_SCHEDULE": "`tests`, in a schedule of GitLab's: that one runs the slow and long tests",
    "GOLDEN_RUNNER": "label of the GitHub runner for jobs that bake, lock or test; default: "
    "`ubuntu-24.04`",
    "GOLDEN_PULL_REQUEST_TOKEN": "token with which GitHub's pipeline opens pull requests, so that "
    "checks start",
}
"""Settings of a repository on GitHub or a project on GitLab, which only its pipelines read.
docs/ci.md says where to set them."""


def misspelt(name: str) -> tuple[str, bool]:
    """Return the known variable that `name` may be a misspelling of, or "" if `name` is known or
    near none; and whether it starts like a family, of which another machine may have more."""
    known_names, families = set[str](), list[str]()
    for group in (*VARIABLES.values(), OF_OTHERS, PIPELINE_SETTINGS):
        for entry, meaning in group.items():
            known_names.add(entry)
            if "<" in entry:
                family = entry.partition("<")[0]
                families.append(family)
                members = re.findall(rf"`(?:{family}|_)([A-Z_]+)`", meaning)
                known_names.update(family + member for member in members)
    is_of_family = name.startswith(tuple(families))
    if name in known_names:
        return "", is_of_family
    # Without the prefix, which all have in common and by which any two would be near.
    ends = [
        variable.removeprefix(PREFIX) for variable in sorted(known_names) if "<" not in variable
    ]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1, cutoff=0.7)
    if not near:
        return "", is_of_family
    return PREFIX + near[0], is_of_family
