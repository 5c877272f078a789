"""Every environment variable of goldenami, with what it means: docs/reference.md is made from it.

`<NAME>` stands for a family. A layout rule finds a variable that some file uses and this table lacks.
"""

from __future__ import annotations

import difflib
import re

PREFIX = "GOLDEN_"

VARIABLES: dict[str, dict[str, str]] = {
    "This machine": {
        "GOLDEN_CACHE": "folder of the store, base trees, compiled modules and timings; default `~/.cache/goldenami`, "
                        "or below `XDG_CACHE_HOME`",
        "GOLDEN_LAYERS_GB": "what all layers of bakes may occupy, in 10^9 bytes; default 24",
        "GOLDEN_JOBS": "compilers of a framework that run at once, at most; default: as CPUs and memory allow",
        "GOLDEN_CCACHE_REMOTE": "a cache that builders share: ccache's `remote_storage`; `file:` needs no network",
        "GOLDEN_BOOT_LIMIT_S": "seconds that a boot of `verify` or `shell` may take to SSH; default 600",
        "GOLDEN_MITOGEN": "`0`: Ansible's own strategy instead of mitogen's in a bake",
    },
    "Sources": {
        "GOLDEN_MIRROR_<ARCHIVE>": "URI of an archive: `GOLDEN_MIRROR_DEBIAN`, `_DEBIAN_SECURITY`, `_UBUNTU`; of a "
                                   "vendor's instead of its own: `_NVIDIA`, `_NVIDIA_CONTAINER`; default: this "
                                   "machine's apt sources, the vendor's address",
        "GOLDEN_MIRROR_PYPI": "a package index's simple API; default: the one that this machine's pip uses",
        "GOLDEN_KEYRING_<NAME>": "file of a keyring: `GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING`, "
                                 "`_UBUNTU_ARCHIVE_KEYRING`; instead of the key beside a vendor's index, and of the "
                                 "same fingerprint: `_GOLDEN_NVIDIA`, `_GOLDEN_NVIDIA_CONTAINER`",
        "GOLDEN_STORE_S3": "remote package store, `s3://bucket/prefix`; credentials as with every AWS tool",
        "GOLDEN_NVIDIA_RELEASES": "address or file of the list of driver branches, instead of NVIDIA's own",
    },
    "Signed kernel modules": {
        "GOLDEN_MODULE_KEY": "RSA key with which `lock` signs kernel modules; unset: they are not signed",
        "GOLDEN_MODULE_CERTIFICATE": "its certificate",
    },
    "Signed provenance": {
        "GOLDEN_SIGNING_KEY": "ECDSA P-256 key with which `publish` signs where a build comes from: a file, or the ARN "
                              "of a key of KMS; unset: unsigned",
    },
    "AWS": {
        "GOLDEN_SSH_FROM": "IPv4 network, such as `203.0.113.7/32`, from which SSH may reach the instances of "
                           "`bake --builder ec2`; default: any, with a key of that run only",
        "GOLDEN_TEST_PROFILE": "profile by which `gpu-test` and `attest` act, whose role alone may write "
                               "their records; default: as all other commands",
        "AWS_<NAME>": "credentials, region and profile, as with the AWS CLI; `AWS_ENDPOINT_URL` names the emulator",
    },
    "Notices and pipelines": {
        "GOLDEN_WEBHOOK": "Slack-compatible webhook that is told what `watch` and `drift` found",
        "GOLDEN_SNS_TOPIC": "ARN of an SNS topic that is told the same",
        "GOLDEN_SITE_S3": "where `site` keeps the page over all images and earlier builds, `s3://bucket/prefix`",
        "GOLDEN_RUN_URL": "the pipeline's run, linked in the summaries of `watch` and `drift`",
        "GOLDEN_PUSH_URL": "where `propose` pushes, token included; default: the remote `origin`",
        "GOLDEN_PUBLISH_ROLE": "ARN of the role that the pipelines publish with, by OIDC",
        "GOLDEN_TEST_ROLE": "ARN of the role that `gpu-test` acts by there",
        "GOLDEN_TEST_CREDENTIALS": "that role's credentials, for the profile of .ci/aws-config",
        "GOLDEN_PUBLISH_REGION": "region in which GitHub's pipeline takes that role",
        "GOLDEN_UNATTENDED": "`yes`: the daily pipeline releases what it locked, without a person",
        "GOLDEN_SCHEDULE": "`tests`, in a schedule of GitLab's: that one runs the slow and long tests",
        "GOLDEN_RUNNER": "label of the GitHub runner for jobs that bake, lock or test; default: `ubuntu-24.04`",
        "GOLDEN_PULL_REQUEST_TOKEN": "token with which GitHub's pipeline opens pull requests, so that checks start",
        "CI": "set: a test whose tool is missing fails instead of being skipped, and `make bake` makes no new lock "
              "(`make test` does: it publishes nothing)",
    },
    "Tests": {
        "GOLDEN_IMAGE": "image whose container a Molecule scenario uses; default `debian-13-ml-cpu`",
        "GOLDEN_PCI_DEVICES": "instead of `/sys/bus/pci/devices`, to try a machine with GPUs without one",
        "GOLDEN_GPU_ROOT": "instead of `/`, likewise",
    },
    "Set by goldenami for the programs that it starts": {
        "GOLDEN_VARS": "file of the lock's variables, for the checks of an image",
        "GOLDEN_CHECKS": "file that the checks' outcomes go to",
        "GOLDEN_BOOTED": "the checks run on a booted image",
        "GOLDEN_CPU_LACKS": "features of the baseline that the emulated CPU lacks, joined by commas",
        "GOLDEN_GPU_TEST": "JSON file of a test on a GPU; with it the checks marked `gpu` run",
        "GOLDEN_TIMINGS": "file that the seconds of each role go to",
    },
}
"""By group and name; the groups in the order of the page."""


def misspelt(name: str) -> tuple[str, bool]:
    """The variable that was meant by one that nothing reads, "" where none is near; and whether it is of a family, of
    which another machine may have more."""
    known, families = set[str](), list[str]()
    for entry, said in (item for group in VARIABLES.values() for item in group.items()):
        known.add(entry)
        if "<" in entry:
            families.append(entry.partition("<")[0])
            known |= {families[-1] + end for end in re.findall(rf"`(?:{families[-1]}|_)([A-Z_]+)`", said)}
    # Without what all have in common: it would make any two near.
    ends = [one.removeprefix(PREFIX) for one in sorted(known) if "<" not in one]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), ends, n=1, cutoff=0.7) if name not in known else []
    return (PREFIX + near[0] if near else "", name.startswith(tuple(families)))
