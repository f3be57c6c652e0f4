"""Settings that fit one by one and together, and that no server starts with all the same: it would be open, or what was
set would do nothing."""

from collections.abc import Iterable
from importlib.util import find_spec

from sse_fast.settings.settings import Settings

PUBLIC_KEY_LENGTH = 16  # characters at least that a publish key has where others than this machine can try some
USERS = "source of users; set token_secret, token_keys or authorize_url"
OF_BACKPLANE = ("backplane_prefix", "backplane_replicas", "backplane_size", "backplane_max_age")
OF_MERCURE = (
    *("mercure_version", "mercure_url", "mercure_publisher_key", "mercure_publisher_alg", "mercure_subscriber_key"),
    *("mercure_subscriber_alg", "mercure_issuer", "mercure_anonymous", "mercure_cookie", "mercure_subscriptions"),
)
# Settings that only say how tokens are taken.
OF_TOKENS = (
    *("token_issuer", "token_audience", "token_algorithms", "token_leeway", "token_endless"),
    *("token_cookie", "token_in_query"),
)


def refuse_unsafe(settings: Settings) -> None:
    """Raise ValueError where anybody could publish and no setting says that they may, could guess the key, or where
    something that is set does nothing."""
    refuse_idle(settings)
    if settings.keeps_presence and settings.before_an_edge:
        raise ValueError(
            "an edge in front of another one does not know who is there at that; leave out presence_channels, and "
            "presence of namespaces"
        )
    if settings.backplane is not None and settings.log_file is not None:
        raise ValueError("with backplane the log is there, and log_file would be another; leave log_file out")
    if settings.mercure:
        _refuse_mercure(settings)
    keyed = settings.publish_key is not None or settings.publish_keys is not None
    if not (settings.guarded or settings.app):
        _refuse_set(settings, ("presence_channels",), USERS)
    for each in settings.namespace:
        if each.presence and not (settings.guarded or settings.app):
            raise ValueError(f"presence of the namespace {each.pattern!r} does nothing without a {USERS} too")
        if each.publish == "keys" and not keyed:
            raise ValueError(f"nobody has a key for the namespace {each.pattern!r}; set publish_key or publish_keys")
        if each.publish == "credentials" and not (keyed or settings.takes_tokens):
            raise ValueError(
                f"nobody has a credential for the namespace {each.pattern!r}; set token_secret or publish_key"
            )
    if not (settings.loopback or keyed or settings.guarded or settings.grant_publish or settings.open):
        raise ValueError(
            f"refusing to listen on {settings.host} without a publish key: anybody who can reach it could publish. "
            "Set --publish-key (or SSE_FAST_PUBLISH_KEY) or --token-secret, or say --open if that is what you want."
        )
    key = settings.publish_key.get_secret_value() if settings.publish_key is not None else None
    if key is not None and len(key) < PUBLIC_KEY_LENGTH and not settings.loopback:
        raise ValueError(
            f"refusing to listen on {settings.host} with a publish key of {len(key)} characters, which can be guessed: "
            f"it has at least {PUBLIC_KEY_LENGTH} there, and `sse-fast token secret` makes one"
        )


def _refuse_mercure(settings: Settings) -> None:
    """Raise ValueError where it can't be spoken, or a key of it is none."""
    for library in ("re2", "urlpattern"):
        if find_spec(library) is None:
            raise ValueError(f"mercure needs {library}, which is not installed: pip install 'sse-fast[edge,mercure]'")
    by_any_name = settings.mercure_url is None and "*" in settings.hosts_where_it_listens
    if by_any_name and settings.takes_tokens and settings.mercure_version != "7":
        raise ValueError(
            "tokens of Mercure's draft 08 are for one hub, and this one does not know what it is called: whoever asks "
            "would say it, and use a token for another one. Set mercure_url (or allowed_hosts, or mercure_version to 7)"
        )
    if settings.has_mercure_keys:
        from sse_fast.access.keys import key_of_text

        for role in ("publisher", "subscriber"):
            key = getattr(settings, f"mercure_{role}_key")
            try:
                if key is not None:
                    key_of_text(key.get_secret_value(), getattr(settings, f"mercure_{role}_alg"))
            except ValueError as error:
                raise ValueError(f"mercure_{role}_key: {error}") from None


def refuse_idle(settings: Settings) -> None:
    """Raise ValueError for what does nothing without another setting. Of credentials, where there is nothing by which
    they could be told from others: whoever set that means a server that is closed, and everybody could listen."""
    if not settings.takes_tokens:
        _refuse_set(settings, OF_TOKENS, "source of keys for tokens; set token_secret, token_keys or jwks_url")
    if not settings.mercure:
        _refuse_set(settings, OF_MERCURE, "word that Mercure is spoken; set mercure")
    if settings.backplane is None:
        _refuse_set(settings, OF_BACKPLANE, "backplane; set backplane")
    if settings.authorize_url is None:
        _refuse_set(settings, ("authorize_headers",), "webhook; set authorize_url")
    if "compress" not in settings.model_fields_set:  # who says that nothing is to be compressed knows of it
        _refuse_set(settings, ("compress_min",), "word that streams are compressed; set compress")


def _refuse_set(settings: Settings, names: Iterable[str], without: str) -> None:
    for name in names:
        if getattr(settings, name) != Settings.model_fields[name].default:
            raise ValueError(f"{name} does nothing without a {without} too, or leave {name} out")
