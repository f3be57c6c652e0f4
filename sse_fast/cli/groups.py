"""In which order `serve --help` has the settings, and under which titles."""

import click

GROUPS = {
    "Where it listens": "host port uds workers ssl_certificate ssl_keyfile trusted_proxies allowed_hosts",
    "Your app beside it": "app factory edge_path relay_timeout",
    "Publishing": "publish_key publish_keys open grant_publish schema private_schema idempotency_window "
    "idempotency_keys",
    "Tokens": "token_secret token_keys jwks_url token_issuer token_audience token_algorithms token_leeway "
    "token_endless token_cookie token_in_query grant_subscribe",
    "A webhook that says who may listen": "authorize_url authorize_headers",
    "Mercure": "mercure mercure_version mercure_url mercure_publisher_key mercure_publisher_alg mercure_subscriber_key "
    "mercure_subscriber_alg mercure_issuer mercure_anonymous mercure_cookie mercure_subscriptions",
    "Web pages of other origins": "cors_origins",
    "What is kept": "log_size log_file max_history",
    "Several machines": "backplane backplane_prefix backplane_replicas backplane_size backplane_max_age",
    "Streams": "keepalive retry max_stream_age send_timeout send_buffer send_memory slow_policy compress "
    "compress_min presence_channels",
    "Limits": "max_connections max_connections_per_ip max_connections_per_channel max_connections_per_token namespace "
    "max_channels_per_stream max_subscriptions max_patterns max_event_size max_body_size",
    "Rates": "rate_open rate_publish rate_publish_channel rate_replay",
    "Operations": "operations_port operations_host hung_worker_timeout drain_timeout",
    "What is logged": "log_level log_format access_log",
}


class Grouped(click.Command):
    """A command whose options that are settings are listed by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = {each.name: each.get_help_record(ctx) for each in self.get_params(ctx)}
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names.split() if (record := shown.pop(name, None)) is not None])
        if rest := [record for record in shown.values() if record is not None]:
            with formatter.section("Options"):
                formatter.write_dl(rest)
