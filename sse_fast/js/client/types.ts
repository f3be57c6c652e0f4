/** The browser client of sse_fast: one stream by fetch, with headers, that comes back and resumes exactly, and that all tabs
 * of a page may share. No dependencies; what of the browser is missing (as in Node) is done without. */

/** An event as it came. With `envelope`, `channel`, `channels` and `time` are there, and `data` is out of its envelope. */
export interface StreamEvent {
  /** Its name on the wire, "message" if it has none. */
  type: string;
  data: string;
  /** The id to resume by. */
  id: string;
  channel?: string;
  channels?: string[];
  /** When it was published: RFC 3339, UTC. */
  time?: string;
}

/** Events between the ids `after` and `until` are gone; of at most so many positions, where that is known. */
export interface Gap {
  after: string | null;
  until: string | null;
  positions?: number;
}

export type StreamState =
  | { name: "connecting" }
  /** `leftOut`: the channels that are not granted, with `allowedOnly`. */
  | { name: "open"; leftOut: string[] }
  /** `until`: milliseconds since 1970; null: until the browser is online, or the page is looked at again. */
  | { name: "waiting"; until: number | null; attempt: number; why: string }
  | { name: "closed"; why: string; error?: StreamError };

/** Why there is no stream. `final`: nor will there be. `status` and `detail` are those of the answer. */
export class StreamError extends Error {
  override name = "StreamError";
  readonly final: boolean;
  readonly status: number | undefined;
  readonly detail: string | undefined;

  constructor(
    message: string,
    { final = false, status, detail, cause }: { final?: boolean; status?: number; detail?: string; cause?: unknown } = {},
  ) {
    super(message);
    this.final = final;
    this.status = status;
    this.detail = detail;
    if (cause !== undefined) Object.assign(this, { cause });
  }
}

export type Token = string | null | undefined;

/** Channels and patterns of the edge at `url`; without one of the edge that served this module, its `/sse`. */
export interface StreamSource {
  url?: string | URL;
  channels?: readonly string[];
  patterns?: readonly string[];
  /** So many kept events first. */
  history?: number;
  /** Say of each event which channel it is from, and when it was published. */
  envelope?: boolean;
  /** Of the channels those that are granted; `leftOut` of the state has the others. */
  allowedOnly?: boolean;
}

export interface StreamOptions<T = StreamEvent> {
  /** Makes of an event what the handlers get. If it throws, `onError` is told, and the event is left out. */
  decode?: (event: StreamEvent) => T;
  /** Makes of a gap what iterators get in its place; without it they get nothing. */
  decodeGap?: (gap: Gap, id: string) => T;
  onEvent?: (event: T, raw: StreamEvent) => void;
  /** Events are missing here: fetch what you show anew. */
  onGap?: (gap: Gap, id: string) => void;
  /** A channel forgets what was published before. */
  onForgotten?: (forgotten: { channel: string; id: string }) => void;
  /** The stream's credential ends in so many seconds. `getToken` is called by itself; renew a cookie here. With
   * `shareAcrossTabs` only the tab that holds the stream is told, as with `onClosing`. */
  onExpiring?: (expiring: { seconds: number }) => void;
  onClosing?: (closing: { reason: string }) => void;
  /** It is open again; "complete": nothing was missed; "gap": something was, and `onGap` follows. */
  onReconnect?: (reconnect: { resume: "live" | "complete" | "gap" }) => void;
  onState?: (state: StreamState) => void;
  /** A StreamError, or what `decode`, a handler or `getToken` threw. */
  onError?: (error: unknown, event?: StreamEvent) => void;
  /** Before each attempt; sent as `Authorization: Bearer`. `again`: the last one was answered 401. Once more at the
   * beginning, when somebody looks at a page that follows another tab, and when it is somebody else's, with
   * `shareAcrossTabs: true`, to know with whom. */
  getToken?: (why: { signal?: AbortSignal; again: boolean }) => Token | Promise<Token>;
  /** Of each attempt. */
  headers?: HeadersGiven | (() => HeadersGiven | Promise<HeadersGiven>);
  credentials?: "omit" | "same-origin" | "include";
  fetch?: typeof fetch;
  /** Resume behind this id; "earliest": begin with all that is kept. */
  lastEventId?: string;
  /** One stream for all tabs of this origin with the same URL. true: and with the same headers and token (of a JWT: the
   * same claims but for exp, iat, nbf, jti). A string says who it is instead, as where a cookie does. Without Web Locks
   * and BroadcastChannel, which browsers have on secure origins, each tab has a stream of its own. */
  shareAcrossTabs?: boolean | string;
  /** Aborted, it closes the stream. */
  signal?: AbortSignal;
  /** Milliseconds of silence after which a stream is taken for dead; else learnt from its heartbeats, 45 s until then. */
  heartbeatTimeout?: number;
  /** Milliseconds. A wait is what the server's `retry` says, or else `minDelay`, and a random part of up to
   * minDelay * (2 ** failures - 1), `maxDelay` at most; and never less than `Retry-After`. */
  minDelay?: number;
  maxDelay?: number;
  /** Events that wait for a slow async iterator; past that the stream is not read on. */
  queueSize?: number;
  /** Characters of data; of a longer event onError is told, and the stream goes on. */
  maxEventSize?: number;
}

export interface Connection<T = StreamEvent> extends AsyncIterable<T> {
  readonly state: StreamState;
  /** Of the last event that was handed out: what another stream would resume by. */
  readonly lastEventId: string;
  /** Of one type, by its name on the wire. Returns what takes the handler off. */
  on(type: string, handler: (event: T, raw: StreamEvent) => void): () => void;
  /** Wait no longer. */
  reconnect(): void;
  close(): void;
  /** Events from here on. Ends when the stream is closed, and throws what it was refused with. */
  [Symbol.asyncIterator](): AsyncIterableIterator<T>;
}

export type HeadersGiven = ConstructorParameters<typeof Headers>[0];

// ---- what the parts below are to each other ----------------------------------------------------------------------------
//
//   EventStreamParser  bytes -> events, by the standard
//   LiveStream         one stream: attempts, waits, tokens, stalls; it goes on behind `lastEventId`
//   TabGroup           one LiveStream for all tabs: who holds it, and what the others are told
//   PageConnection     what a page has: its own place in the stream, its handlers, its queues
//
// The law: a page gets each event once, in order, or is told of a gap. Its place is its own `lastEventId`, so whoever holds
// the stream may die at any moment: the next one goes on from there.

/** An event of which too little was kept to be one. */
export type ParsedEvent = StreamEvent & { tooLong?: true };

/** `own`: it has an id of its own, and not that of the one before. */
export interface StreamFrame {
  event: ParsedEvent;
  own: boolean;
}

/** The lock and the channel of all tabs with a stream, and, where they are those of one user by headers and token, who. */
export interface SharedName {
  name: string;
  who: string | undefined;
}

/** All options, with what is by default. */
export interface FilledOptions<T> extends StreamOptions<T> {
  url: string;
  credentials: "omit" | "same-origin" | "include";
  fetch: typeof fetch;
  lastEventId: string;
  minDelay: number;
  maxDelay: number;
  queueSize: number;
  maxEventSize: number;
  headersNow(): Promise<HeadersGiven>;
  tokenNow(why: { signal?: AbortSignal; again: boolean }): Promise<Token>;
  sharedAs(): Promise<SharedName | null>;
}

/** Whom a stream tells. */
export interface StreamListener {
  /** In order, of a stream that was asked for behind the id `asked`. */
  frames(frames: StreamFrame[], asked: string): void;
  state(state: StreamState): void;
  error(error: unknown): void;
  /** Before each attempt: as whom. */
  asks(who: string): void;
  /** Waited for before more is read. */
  room(): Promise<void> | undefined;
}

/** Of the browser there is what there is. */
export const platform: any = globalThis; // eslint-disable-line
