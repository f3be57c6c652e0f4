"""`python -m peers [install [name ...]]`, in benches/: what is here; install fetches and builds what is missing."""

import sys

from . import PEERS, CannotInstall


def main(arguments: list[str]) -> int:
    if arguments[:1] not in ([], ["install"]) or set(arguments[1:]) - {peer.name for peer in PEERS}:
        print(f"{__doc__}\nNames: {', '.join(peer.name for peer in PEERS)}", file=sys.stderr)
        return 2
    missing = 0
    for peer in PEERS:
        wanted = arguments and (not arguments[1:] or peer.name in arguments)
        if wanted and peer.version() is None:
            print(f"{peer.name}: installing", flush=True)
            try:
                peer.install()
            except CannotInstall as error:
                missing += 1
                print(f"{peer.name}: cannot be had here: {error}", flush=True)
                continue
        print(f"{peer.name}: {peer.version() or 'not installed'}", flush=True)
    return min(missing, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
