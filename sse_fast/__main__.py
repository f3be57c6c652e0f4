"""`sse-fast`, and `python -m sse_fast`."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # The default would end the server. Before all imports: it may be told to reload as soon as it is started.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from sse_fast.cli.main import main

if __name__ == "__main__":
    main()
