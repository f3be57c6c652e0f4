// Carries the streams of an Elm app whose module `sse-fast generate elm` made:
//
//     import { connect } from "/client.js"; // of the edge, or sse_fast/js/sse-fast.js
//     import { carryStreams } from "./ports.js";
//
//     const app = Elm.Main.init({ node: document.getElementById("app") });
//     carryStreams(app, connect, { url: "/sse", getToken: () => token });
//
// Returns what ends all streams. `url`: of the server's /sse; the other options are those of `connect`.

export function carryStreams(app, connect, { url, ...options } = {}) {
  const streams = new Map();

  const open = ({ updates, channel, parts, parameters, after }) => {
    const key = JSON.stringify([updates, channel]);
    const tell = (told) => app.ports[updates]?.send({ ...told, parameters });
    const wrong = parts.find((part) => part === "" || part.includes(":"));
    if (wrong !== undefined) {
      const message = `a part of a channel's name is some text without ":", not ${JSON.stringify(wrong)}`;
      tell({ kind: "error", message, final: true });
      return;
    }
    streams.get(key)?.close();
    const { history, ...rest } = options;
    const source = { channels: [channel], ...(url === undefined ? {} : { url }), ...(history === undefined ? {} : { history }) };
    const stream = connect(source, {
      ...rest,
      ...(after === null ? {} : { lastEventId: after }),
      onEvent: ({ type, data, id }) => tell({ kind: "event", type, data, id }),
      onGap: (gap) => tell({ positions: null, ...gap, kind: "gap" }),
      onReconnect: () => tell({ kind: "reconnect" }),
      onState: ({ name, until, attempt, why }) =>
        tell({ kind: "state", name, until: until ?? null, attempt: attempt ?? 0, why: why ?? "" }),
      onError: (error) => tell({ kind: "error", message: String(error.message ?? error), final: error.final === true }),
    });
    streams.set(key, stream);
  };

  const close = ({ updates, channel }) => {
    const key = JSON.stringify([updates, channel]);
    streams.get(key)?.close();
    streams.delete(key);
  };

  // In a turn of its own: the port of what comes back has to be subscribed to first.
  app.ports.sseFast?.subscribe((asked) => setTimeout(() => (asked.do === "open" ? open : close)(asked)));
  return () => {
    for (const stream of streams.values()) stream.close();
    streams.clear();
  };
}
