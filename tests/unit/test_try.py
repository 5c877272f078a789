import os, subprocess, sys, time
import pytest, debrepo
from debrepo import Fault
from goldenami import apt, cli
from pathlib import Path
S={"refuse":None,"hang":{"*/debian/dists/*":Fault.HANG},"404":{"*":Fault.LOST},"broken":{"*":Fault.BROKEN},"trunc":{"/debian/dists/bookworm/main*":Fault.TRUNCATED},"corrupt":{"/debian/dists/bookworm/main*":Fault.CORRUPTED},"truncin":{"/debian/dists/bookworm/InRelease":Fault.TRUNCATED},"badsig":{"/debian/dists/bookworm/InRelease":Fault.CORRUPTED},"unsigned":{"*/InRelease":Fault.LOST,"*/Release.gpg":Fault.LOST},"stalled":{"/debian/dists/bookworm/main*":Fault.STALLED}, "nopool":{"*/pool/*":Fault.BROKEN}}
@pytest.mark.parametrize("n",list(S))
def test_try(root, debian, n, monkeypatch, capsys):
    monkeypatch.setattr(apt,"FETCH_TIMEOUT_S",1); monkeypatch.setattr(apt,"FETCH_RETRIES",1)
    monkeypatch.setattr(cli,"ROOT",root)
    if n=="refuse": debian.close()
    else: debian.faults=S[n]
    t=time.time()
    r=cli.main(["lock","debian-12-ml-cpu"])
    e=capsys.readouterr().err
    with capsys.disabled(): print(n, r, time.time()-t, e, len(debian.requests))
