"""The pages of the site that are made of something else: every setting, the HTTP API as the edge itself describes it,
the features, the changes. A hook of mkdocs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
METHODS = ("get", "post", "delete")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = {
        "reference/settings.md": settings_page(),
        "reference/http.md": http_page(),
        "changelog.md": elsewhere((ROOT / "CHANGELOG.md").read_text(), config),
        "features.md": elsewhere((ROOT / "FEATURES.md").read_text(), config),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    files.append(File.generated(config, "peers.svg", abs_src_path=str(ROOT / "benches/results/peers.svg")))
    return files


def elsewhere(text: str, config: MkDocsConfig) -> str:
    """A page of the repository, whose links to the site's pages are the site's and all others the repository's."""
    text = re.sub(r"\]\((?!https?:|#|docs/)([^)]+)\)", rf"]({config.repo_url}/blob/main/\1)", text)
    return text.replace("](docs/", "](")


# ---- settings --------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    return "\n".join(_settings())


def _settings() -> Iterator[str]:
    from sse_fast.cli.groups import GROUPS
    from sse_fast.cli.main import main

    yield "# Every setting\n"
    yield "A flag of `sse-fast serve`, a variable, or a key of `sse-fast.toml`: [what to know](../running/settings.md)."
    context = click.Context(main)
    serve = main.get_command(context, "serve")
    assert serve is not None
    options = {each.name: each for each in serve.params if isinstance(each, click.Option)}
    for title, names in GROUPS.items():
        yield f"\n## {title}\n"
        for name in names.split():
            if (option := options.pop(name, None)) is not None:
                yield from _setting(option, context)
    yield "\n## Other options\n"
    for option in options.values():
        yield from _setting(option, context)


def _setting(option: click.Option, context: click.Context) -> Iterator[str]:
    record = option.get_help_record(context)
    if record is None:
        return
    flags, says = record
    variable = f"SSE_FAST_{str(option.name).upper()}"
    says = re.sub(
        rf"\[{variable}(?:; default (.*))?\]$", lambda told: f"Default: `{told[1]}`." if told[1] else "", says
    )
    yield f"\n### `{option.opts[-1]}` {{ #{option.name} }}\n"
    yield f"`{flags}`, `{variable}`, `{option.name}` in the file.\n"
    yield "".join(
        part if part.startswith("`") else part.replace("<", "&lt;").replace("*", r"\*")
        for part in re.split(r"(`[^`]*`)", says)
    )


# ---- HTTP ------------------------------------------------------------------------------------------------------------


def http_page() -> str:
    return "\n".join(_http())


def _http() -> Iterator[str]:
    document = _document()
    yield "# The HTTP API\n"
    yield (
        "As an edge without settings describes itself at `/openapi.json` ([OpenAPI](../typed/descriptions.md)). "
        "What its routes mean is told in [the edge over HTTP](../edge/http.md)."
    )
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                yield from _operation(method.upper(), path, operations[method], document)


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    yield f"\n## `{method} {path}` {{ #{operation['operationId']} }}\n"
    yield operation.get("summary", operation.get("description", "")) + "\n"
    parameters = [_resolved(each, document) for each in operation.get("parameters", [])]
    if parameters:
        yield "| parameter | in | what it is |\n|---|---|---|"
        for each in parameters:
            needed = ", required" if each.get("required") else ""
            says = each.get("description", "") or _bounds(each.get("schema", {}))
            yield f"| `{each['name']}` | {each['in']}{needed} | {_cell(says)} |"
        yield ""
    if content := operation.get("requestBody", {}).get("content"):
        yield f"The body: {', '.join(f'`{each}`' for each in content)}.\n"
    yield "| status | |\n|---|---|"
    for status, response in operation.get("responses", {}).items():
        response = _resolved(response, document)
        kinds = ", ".join(f"`{each}`" for each in response.get("content", {}))
        yield f"| {status} | {_cell(response.get('description', ''))}{f' ({kinds})' if kinds else ''} |"


def _resolved(each: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in each:
        found: Any = document
        for part in each["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        each = found
    return each


def _bounds(schema: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in schema.items() if not isinstance(value, dict | list))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def _document() -> dict[str, Any]:
    import asyncio

    import httpx

    from sse_fast import Settings, create_app

    async def asked() -> dict[str, Any]:
        app = create_app(Settings(_env_file=None))
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            answer = await client.get("/openapi.json")
            answer.raise_for_status()
            document: dict[str, Any] = answer.json()
        await app.close()
        return document

    return asyncio.run(asked())
