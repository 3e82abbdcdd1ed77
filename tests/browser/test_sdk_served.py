"""The SDK as the service serves it: its size, its hash, caches, other origins, and the ways to load it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.shop import ONE_VIEW, STUB, Stage, flush, identity, until
from tests.conftest import skip_or_fail

ROOT = Path(__file__).resolve().parent.parent.parent
SERVED = ROOT / "service" / "pages" / "sdk"
ABOUT: dict[str, Any] = json.loads((SERVED / "footfall.json").read_text(encoding="utf-8"))
VERSION = ABOUT["version"]
GUIDE = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
GZIP_BYTES_MAX = 5_000


def integrity(content: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


# --- what is served ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["script", "module"])
def test_the_file_is_small_and_is_what_its_description_says(kind: str) -> None:
    about = ABOUT[kind]
    content = (SERVED / Path(about["path"]).name).read_bytes()

    assert len(gzip.compress(content, 9)) < GZIP_BYTES_MAX
    assert about["integrity"] == integrity(content)
    assert about["bytes"] == len(content)


def test_the_guide_names_this_build() -> None:
    version = json.loads((ROOT / "sdk" / "package.json").read_text(encoding="utf-8"))["version"]

    assert version == VERSION
    assert set(re.findall(r"sha384-[\w+/=]+", GUIDE)) == {ABOUT["script"]["integrity"]}
    assert set(re.findall(r"footfall-(\d+\.\d+\.\d+)\.m?js", GUIDE)) == {VERSION}


def test_the_lock_pins_versions_and_hashes_and_no_place() -> None:
    lock = json.loads((ROOT / "sdk" / "package-lock.json").read_text(encoding="utf-8"))
    package = json.loads((ROOT / "sdk" / "package.json").read_text(encoding="utf-8"))

    assert "dependencies" not in package
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", wanted) for wanted in package["devDependencies"].values())
    for name, entry in lock["packages"].items():
        assert "resolved" not in entry, name
        assert name == "" or entry["integrity"].startswith("sha512-"), name


def test_the_committed_files_are_what_the_source_builds_to() -> None:
    node = shutil.which("node")
    if node is None or not (ROOT / "sdk" / "node_modules" / "esbuild").is_dir():
        skip_or_fail("the SDK's build is not set up (make sdk)")
    built = subprocess.run(
        [node, "build.mjs", "--check"], cwd=ROOT / "sdk", capture_output=True, text=True, check=False
    )

    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(
    ("path", "same_as", "caching"),
    [
        ("footfall.js", f"footfall-{VERSION}.js", "public, max-age=3600"),
        (f"footfall-{VERSION}.js", f"footfall-{VERSION}.js", "public, max-age=31536000, immutable"),
        ("footfall.mjs", f"footfall-{VERSION}.mjs", "public, max-age=3600"),
        (f"footfall-{VERSION}.mjs", f"footfall-{VERSION}.mjs", "public, max-age=31536000, immutable"),
    ],
)
def test_a_script_may_be_kept_and_loaded_by_any_page(
    stage: Stage, path: str, same_as: str, caching: str
) -> None:
    reply = stage.service.get(f"/sdk/{path}", headers={"Authorization": ""})
    unzipped = stage.service.get(f"/sdk/{path}", headers={"Accept-Encoding": "identity"})
    again = stage.service.get(f"/sdk/{path}", headers={"If-None-Match": reply.headers["etag"]})
    other = stage.service.get(f"/sdk/{path}", headers={"If-None-Match": '"other"'})

    assert reply.content == unzipped.content == (SERVED / same_as).read_bytes()
    assert reply.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in unzipped.headers
    assert (again.status_code, again.content, other.status_code) == (304, b"", 200)
    for each in (reply, unzipped, again):
        assert each.headers["cache-control"] == caching
        assert "Accept-Encoding" in each.headers["vary"]
        assert each.headers["access-control-allow-origin"] == "*"
        assert each.headers["cross-origin-resource-policy"] == "cross-origin"
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_description_and_the_source_map_are_served(stage: Stage) -> None:
    about = stage.service.get("/sdk/footfall.json")
    script = stage.service.get("/sdk/footfall.js").text
    source_map = stage.service.get("/sdk/" + script.partition("sourceMappingURL=")[2].strip())

    assert about.json() == ABOUT
    assert source_map.headers["content-type"] == "application/json"
    assert source_map.json()["sourcesContent"] == [(ROOT / "sdk/src/footfall.ts").read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", ["nothing.js", "footfall-9.9.9.js", "footfall.ts", "..%2fdocs%2findex.html"])
def test_nothing_else_is_served(stage: Stage, name: str) -> None:
    assert stage.service.get(f"/sdk/{name}").status_code == 404


# --- ways to load it --------------------------------------------------------------------------------------------------


def tag(stage: Stage, hash_of_it: str, attributes: str = "") -> str:
    """The script tag of the guide."""
    source = f"{stage.gate_url}{ABOUT['script']['path']}"
    return f'<script async src="{source}" integrity="{hash_of_it}" crossorigin="anonymous" {attributes}></script>'


def test_one_tag_is_enough(stage: Stage) -> None:
    right = ABOUT["script"]["integrity"]
    stage.shop.plain = stage.shop.document(tag(stage, right, 'data-write-key="dev-write-key"'))
    page = stage.visit()
    until(lambda: page.evaluate("!!window.footfall?.anonymousId"))
    page.evaluate("footfall.track('Click')")
    flush(page)

    assert page.evaluate("footfall.version") == VERSION
    assert stage.counted(identity(page)) == ONE_VIEW | {"events": 2, "byEvent": {"Click": 1}}


def test_another_hash_is_refused(stage: Stage) -> None:
    wrong = integrity(b"something else")
    stage.shop.plain = stage.shop.document(tag(stage, wrong, 'data-write-key="dev-write-key"'))
    page = stage.visitor().new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(stage.shop.url)
    until(lambda: page.evaluate("1") and any("integrity" in message for message in messages))

    assert page.evaluate("typeof footfall") == "undefined"


def test_calls_from_before_it_has_loaded_are_made_in_order(stage: Stage) -> None:
    init = json.dumps({"writeKey": "dev-write-key", "engagement": False})
    calls = "footfall.track('First'); footfall.productViewed(); footfall.identify('u-stub'); footfall.track('Last')"
    script = f"<script>footfall.init({init}); {calls}</script>"
    stage.shop.plain = stage.shop.document(STUB + script + tag(stage, ABOUT["script"]["integrity"]))
    page = stage.visit()
    until(lambda: page.evaluate("typeof footfall.lost") == "number")
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    flush(page)

    names = [event.get("event", event["type"]) for event in stage.gate.events()]
    assert names == ["First", "Product Viewed", "identify", "Last", "page"]
    assert stage.counted("u-stub") == ONE_VIEW | {
        "events": 4,
        "productViews": 1,
        "byEvent": {"First": 1, "Last": 1},
    }


def test_the_stub_is_the_one_of_the_guide() -> None:
    assert STUB.strip().removesuffix("</script>") in GUIDE


def test_a_page_that_has_the_tag_twice_is_counted_once(stage: Stage) -> None:
    right = ABOUT["script"]["integrity"]
    stage.shop.plain = stage.shop.document(tag(stage, right, 'data-write-key="dev-write-key"') * 2)
    page = stage.visit()
    until(lambda: page.evaluate("!!window.footfall?.anonymousId"))
    page.wait_for_load_state("networkidle")
    flush(page)

    assert stage.counted(identity(page)) == ONE_VIEW


def test_the_module_waits_for_init(stage: Stage) -> None:
    given = json.dumps({"writeKey": "dev-write-key", "endpoint": stage.gate_url + "/", "engagement": False})
    stage.shop.plain = stage.shop.document(
        f"""<script type="module">
          import {{ footfall }} from "{stage.gate_url}/sdk/footfall-{VERSION}.mjs";
          footfall.track("Before");
          footfall.init({given});
          footfall.init({{ writeKey: "another" }});
          footfall.track("After");
          window.loaded = footfall;
        </script>"""
    )
    page = stage.visit()
    until(lambda: page.evaluate("!!window.loaded?.anonymousId"))
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    page.evaluate("loaded.flush()")

    assert page.evaluate("typeof footfall") == "undefined"
    names = [event.get("event", event["type"]) for event in stage.gate.events()]
    assert names == ["Before", "After", "page"]
    found: str = page.evaluate("loaded.anonymousId")
    assert stage.counted(found) == ONE_VIEW | {"events": 3, "byEvent": {"Before": 1, "After": 1}}


def test_it_can_be_imported_where_there_is_no_page() -> None:
    node = shutil.which("node")
    if node is None:
        skip_or_fail("no Node.js on the PATH (Debian: apt-get install nodejs)")
    program = (
        f"import {{ footfall }} from '{SERVED / f'footfall-{VERSION}.mjs'}';"
        "footfall.init({ writeKey: 'w', endpoint: 'http://127.0.0.1:1' }); footfall.track('Rendered'); footfall.page();"
        "await footfall.flush(); console.log(footfall.version, footfall.lost, footfall.anonymousId === '')"
    )
    done = subprocess.run(
        [node, "--input-type=module", "-e", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [VERSION, "0", "true"]


def test_only_the_listed_origins_get_through_when_there_is_a_list() -> None:
    # The gateway decides for all paths; here its stand-in does, and the file's own header does not widen it.
    from tests import server

    with server.running({"FOOTFALL_ALLOWED_ORIGINS": "https://shop.example"}) as started:
        reply = httpx.get(
            f"{started.url}/sdk/footfall.js", headers={"Origin": "https://shop.example"}, trust_env=False
        )

    assert reply.headers.get_list("access-control-allow-origin") == ["https://shop.example"]
