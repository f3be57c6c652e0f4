"""`sse-fast`, and `python -m sse_fast`."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # The default would end the server. Before all imports: it may be told to reload as soon as it is started.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

try:
    from sse_fast.cli.main import main
except ModuleNotFoundError as missing:
    if (missing.name or "").startswith("sse_fast"):
        raise
    # In plain text: what paints a terminal's is of the same extra.
    from sse_fast.errors import NeedsExtra

    sys.exit(f"sse-fast: {NeedsExtra('the command line', missing, 'edge')}")

if __name__ == "__main__":
    main()
