"""`python -m support.ec2.open_metadata FILE`: the metadata service of goldenami.local.vm, but it
answers without a token too, as EC2's does where `HttpTokens` is optional."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from goldenami.local.vm import imds


class OpenHandler(imds.Handler):
    """Requests that need no token."""

    def do_GET(self) -> None:
        if self.headers.get(imds.TOKEN_HEADER) is None:
            self.headers[imds.TOKEN_HEADER] = self.server.tokens.issue(60)
        super().do_GET()


def main(config: Path) -> None:
    """Serve until killed."""
    instance = imds.Instance(**json.loads(config.read_text(encoding="utf-8")))
    with imds.Service((imds.ADDRESS, imds.PORT), instance) as service:
        service.RequestHandlerClass = OpenHandler
        service.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
