"""docs/access.md, "From nothing to a browser that listens with a token": its commands and its code, as they stand."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import documentation
import pytest
from support import free_port

from sse_fast import Settings, create_app
from sse_fast.access.publish_keys import PublishKeys
from sse_fast.testing import EventClient

pytestmark = pytest.mark.usefixtures("nothing_set")

PATIENCE = 300.0  # nine interpreters start, one after the other, and the machine may be busy with others
SECRET = "a secret of these tests, of 32 bytes or more"
CHAPTER = documentation.TEXT.partition("## From nothing to a browser that listens with a token\n")[2]


def played(script: str, directory: Path) -> tuple[str, str]:
    """What bash and all that it starts write to stdout and stderr. Nothing of it stays, and a test that fails shows all
    of it, however far it came."""
    out, err = directory / "stdout", directory / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=directory, stdout=stdout, stderr=stderr, start_new_session=True
        )
    try:
        shell.wait(PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        print(out.read_text(), err.read_text(), sep="\n")
    return out.read_text(), err.read_text()


def test_its_commands_make_a_server_a_token_and_a_listener(tmp_path: Path) -> None:
    commands = re.findall(r"^\$ (.*?)(?:\s+#.*)?$", CHAPTER.partition("```sh\n")[2].partition("```")[0], re.M)
    assert len(commands) == 7
    port = free_port()
    command = tmp_path / "sse-fast"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sse_fast "$@"\n')
    command.chmod(0o755)
    script = [
        f"export PATH={shlex.quote(str(tmp_path))}:$PATH SSE_FAST_URL=http://127.0.0.1:{port} SSE_FAST_PORT={port}"
    ]
    for line in commands:
        script.append(line)
        if line.startswith("sse-fast serve"):
            script += ["server=$!", "until curl -sf $SSE_FAST_URL/livez >/dev/null; do sleep 0.1; done"]
        elif line.startswith("sse-fast listen") and not line.endswith("&"):
            script.append('echo "refused: $?"')
        elif line.startswith("sse-fast publish"):
            script.append("[ $? = 0 ] || kill $listener")  # which would wait for it
        elif line.startswith("sse-fast listen"):
            opened = """curl -s $SSE_FAST_URL/stats | grep -q '"accepted":1,'"""  # of streams alone it is said
            script += ["listener=$!", f"until {opened}; do sleep 0.1; done"]
    script += ['wait $listener; echo "listened: $?"; kill $server; wait $server']
    said, complained = played("set -x\n" + "\n".join(script), tmp_path)
    assert "refused: 1" in said
    assert "(401 Unauthorized)" in complained
    assert "hello" in said
    assert "listened: 0" in said
    assert '"sub": "42"' in said
    assert "a server with these keys takes it" in complained


async def test_its_app_signs_what_the_edge_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_TOKEN_SECRET", SECRET)
    app = documentation.run("async def token(response: Response")["app"]
    async with EventClient(app, lifespan=False) as shop:
        cookie = (await shop.http.post("/token")).cookies["token"]
    async with EventClient(create_app(Settings(token_cookie="token"))) as edge:
        headers = {"cookie": f"token={cookie}"}
        async with edge.stream("/sse/user:42:orders", headers=headers) as stream:
            assert (await stream.next()).event == "$connected"
        assert (await edge.http.get("/sse/user:43:orders", headers=headers)).status_code == 403


def test_its_file_of_publish_keys_is_one() -> None:
    (text,) = re.findall(r"```toml\n(\[shop\].*?)```", documentation.TEXT, re.S)
    keys = PublishKeys.parse(text.encode())
    assert keys.names == ("key:prometheus", "key:shop")
    assert len(keys) == 3
