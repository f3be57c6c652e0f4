"""`sse-fast`, and `python -m sse_fast`."""

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    # The default would end the server. Before all imports: whoever starts it may have it reload at once.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

from sse_fast.cli.main import main

if __name__ == "__main__":
    main()
