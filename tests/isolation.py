"""For programs beside pytest: credentials, endpoints and settings of this machine have no part in what they do."""

from __future__ import annotations

import os


def isolate() -> None:
    """Leave nothing of AWS and of Footfall in the environment but what no real account knows."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FOOTFALL_")) or name in ("PORT", "WEB_CONCURRENCY"):
            del os.environ[name]
    os.environ |= {
        # DynamoDB Local takes letters and digits only in an access key id.
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
    }
