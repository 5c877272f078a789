"""GOLDEN_BOOT_LIMIT_S: checked where a machine boots, and only there."""

from __future__ import annotations

import pytest
from goldenami.core.errors import BadInput
from goldenami.local.machine import ssh


@pytest.mark.parametrize("text", ["10m", "0", "-1", "nan", "inf", "600 s"])
def test_what_is_no_number_of_seconds_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(ssh.LIMIT, text)
    with pytest.raises(BadInput, match=f"GOLDEN_BOOT_LIMIT_S is `{text}`"):
        ssh.boot_limit_s()
