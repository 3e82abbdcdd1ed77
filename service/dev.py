"""`python -m service run`: the service on this machine, on the embedded engine or on a DynamoDB endpoint."""

import contextlib
import hashlib
import os
import shlex
import signal
import socket
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

import botocore.session
import uvicorn
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from . import __version__, local_search
from .app import create_app
from .dynamodb import NotDynamoDBError, Table, connect, create_table
from .problems import Unavailable
from .service import Service
from .settings import Settings, SettingsError, load_settings

HOST = "127.0.0.1"
DEV_WRITE_KEY = "dev-write-key"
DEV_SECRET_KEY = "dev-secret-key"  # noqa: S105 - a default of this machine alone, printed at start
ENDPOINT = "AWS_ENDPOINT_URL_DYNAMODB"
# A browser's preflight, as template.yaml lets API Gateway answer it; a test compares the two.
CORS_ALLOW_HEADERS = ("authorization", "content-type", "x-retry-count")
CORS_EXPOSE_HEADERS = ("Date", "Retry-After", "Footfall-Capacity")
CORS_MAX_AGE_SECONDS = 7200


class CannotStartError(Exception):
    """One line that says what to do."""


def run(environ: MutableMapping[str, str]) -> None:
    """Serve until interrupted. Raises CannotStartError."""
    port = _whole(environ, "PORT", 8000, 65_535)
    workers = _whole(environ, "WEB_CONCURRENCY", 1, 64)
    if workers > 1 and not environ.get(ENDPOINT) and not local_search.is_asked_for(environ):
        raise CannotStartError(f"WEB_CONCURRENCY={workers} needs a database they can share: set {ENDPOINT}.")
    _require_free(port)
    with contextlib.ExitStack() as stack:
        if local_search.is_asked_for(environ):
            settings, table = _with_search(environ, stack)
        else:
            settings = _settings(environ)
            table = _table(environ, settings)
        app = _checked(settings, table)
        _serve(app, port, workers, _banner(environ, settings, port, table))


class _Server(uvicorn.Server):
    """Says so once it answers; who ends it from then on meets no half of a start."""

    def __init__(self, config: uvicorn.Config, banner: str) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _say(self._banner)


def _serve(app: ASGIApp, port: int, workers: int, banner: str) -> None:
    options: dict[str, Any] = {
        "host": HOST,
        "port": port,
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": 1,
    }
    if workers == 1:
        with contextlib.suppress(KeyboardInterrupt):
            _Server(uvicorn.Config(app, **options), banner).run()
    else:
        _say(banner)
        uvicorn.run("service.dev:worker", factory=True, workers=workers, **options)


def _with_search(environ: MutableMapping[str, str], stack: contextlib.ExitStack) -> tuple[Settings, Table]:
    """The engines, the table with a stream, and the thread that reads it; `stack` ends what was started here."""
    # Without it an engine would outlive a process that is told to end.
    signal.signal(signal.SIGTERM, _end)
    try:
        stack.enter_context(local_search.engines(environ, ENDPOINT, _say))
        settings = _settings(environ)
        client = _client(environ)
        _create(client, settings, environ, has_stream=True)
        table = Table(client, settings.table)
        region = client.meta.region_name
        # The function's handler makes its own client, and botocore itself reads this alone.
        environ["AWS_DEFAULT_REGION"] = region
        streams = botocore.session.get_session().create_client(
            "dynamodbstreams", region, endpoint_url=environ[ENDPOINT]
        )
        stack.enter_context(local_search.indexing(settings, table, streams, region, _say))
    except local_search.NoEngineError as error:
        raise CannotStartError(str(error)) from None
    return settings, table


def _say(line: str) -> None:
    print(line, flush=True)


def _end(signum: int, _: object) -> NoReturn:
    raise SystemExit(128 + signum)


def worker() -> ASGIApp:
    """The application of one of several server processes."""
    return _checked(*deployment(os.environ))


def deployment(environ: MutableMapping[str, str]) -> tuple[Settings, Table]:
    """What the environment says of a deployment whose table is there already. Raises CannotStartError."""
    settings = _settings(environ)
    return settings, Table(_client(environ), settings.table)


def table(environ: MutableMapping[str, str]) -> str:
    """Make the table where the environment points to. Raises CannotStartError."""
    settings = _settings(environ)
    return (
        f"table {settings.table}: {'made' if _create(_client(environ), settings, environ) else 'was there'}"
    )


def with_cors(app: FastAPI, settings: Settings) -> ASGIApp:
    """What API Gateway does in front of the function."""
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST", "OPTIONS"),
        allow_headers=CORS_ALLOW_HEADERS,
        expose_headers=CORS_EXPOSE_HEADERS,
        max_age=CORS_MAX_AGE_SECONDS,
    )


def _settings(environ: MutableMapping[str, str]) -> Settings:
    environ["FOOTFALL_WRITE_KEYS"] = environ.get("FOOTFALL_WRITE_KEYS") or DEV_WRITE_KEY
    environ["FOOTFALL_SECRET_KEY_HASHES"] = environ.get("FOOTFALL_SECRET_KEY_HASHES") or _dev_secret_hash()
    try:
        return load_settings(environ)
    except SettingsError as error:
        raise CannotStartError(str(error)) from None


def _table(environ: MutableMapping[str, str], settings: Settings) -> Table:
    if not environ.get(ENDPOINT):
        # Not at the top: moto takes half a second to import, and a deployment has none.
        from .embedded import embedded_table

        return embedded_table(settings.table)
    client = _client(environ)
    _create(client, settings, environ)
    return Table(client, settings.table)


def _client(environ: MutableMapping[str, str]) -> Any:
    url = environ.get(ENDPOINT)
    host = urlsplit(url).hostname or "" if url else "amazonaws.com"
    if not host.endswith("amazonaws.com"):
        # A local engine takes any credentials, but botocore signs with none.
        if botocore.session.get_session().get_credentials() is None:
            environ.update(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local")  # noqa: S106
        if not (environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")):
            environ["AWS_DEFAULT_REGION"] = "us-east-1"
    try:
        # botocore itself reads AWS_DEFAULT_REGION alone.
        return connect(url or None, region=environ.get("AWS_REGION") or None)
    except NoRegionError:
        raise CannotStartError(
            "In which region is the table? Set AWS_REGION=eu-central-1, for instance, or AWS_PROFILE."
        ) from None
    except (BotoCoreError, ValueError) as error:
        raise CannotStartError(f"No client for {url or 'DynamoDB'}: {error}") from None


def _create(
    client: Any, settings: Settings, environ: MutableMapping[str, str], *, has_stream: bool = False
) -> bool:
    try:
        return create_table(client, settings.table, has_stream=has_stream)
    except (BotoCoreError, ClientError, NotDynamoDBError) as error:
        where = environ.get(ENDPOINT) or "DynamoDB"
        raise CannotStartError(
            f"{where} does not answer as DynamoDB: {type(error).__name__}. Is it running there?"
        ) from None


def _checked(settings: Settings, table: Table) -> ASGIApp:
    app = create_app(settings, table)
    service: Service = app.state.service
    try:
        service.check_timezone(table.calls(time.monotonic() + 10))
    except Unavailable as error:
        raise CannotStartError(error.detail) from None
    return with_cors(app, settings)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        if os.name == "posix":
            # Elsewhere it means that a port may be taken twice.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CannotStartError(
                f"Port {port} is taken. Choose another: PORT={port + 1} make run"
            ) from None


def _whole(environ: MutableMapping[str, str], name: str, default: int, most: int) -> int:
    text = environ.get(name) or str(default)
    if text.isascii() and text.isdigit() and 1 <= int(text) <= most:
        return int(text)
    raise CannotStartError(f"{name}: a whole number from 1 to {most}")


def _banner(environ: MutableMapping[str, str], settings: Settings, port: int, table: Table) -> str:
    where = "in memory, gone when you stop it" if table.is_estimated else environ[ENDPOINT]
    write_key = min(settings.write_keys)
    is_dev = settings.secret_key_hashes == {bytes.fromhex(_dev_secret_hash())}
    secret_key = DEV_SECRET_KEY if is_dev else "$FOOTFALL_SECRET_KEY"
    # Double quotes where the shell is to fill in the key.
    bearer = f"'Authorization: Bearer {secret_key}'" if is_dev else f'"Authorization: Bearer {secret_key}"'
    url = f"http://{HOST}:{port}"
    event = '{"userId": "u-42", "event": "Product Viewed"}'
    search = settings.opensearch_url
    return "\n".join(
        (
            f"Footfall {__version__} on {url} (documentation: {url}/docs)",
            f"  database    {where}",
            *([f"  search      {local_search.without_password(search)}"] if search else []),
            f"  write key   {write_key}",
            f"  secret key  {secret_key if is_dev else 'yours'}",
            "Post an event, then ask what the user did:",
            f"  curl -u {shlex.quote(write_key + ':')} {url}/v1/track -d '{event}'",
            f"  curl -H {bearer} {url}/v1/users/u-42/metrics",
            *([f"  curl -H {bearer} {url}/v1/search/segments -d '{_question()}'"] if search else []),
            "Ctrl-C stops it.",
        )
    )


def _question() -> str:
    """Who has viewed a product lately? A day after the event it is still asked of its day."""
    today = datetime.now(UTC).date()
    first, last = today - timedelta(days=7), today + timedelta(days=1)
    return f'{{"from": "{first}", "to": "{last}", "all": [{{"event": "Product Viewed"}}]}}'


def _dev_secret_hash() -> str:
    return hashlib.sha256(DEV_SECRET_KEY.encode()).hexdigest()
