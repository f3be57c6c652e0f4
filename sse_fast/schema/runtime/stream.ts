// ---- the client that carries the streams: fetch, resume, tell -----------------------------------------------------------

/** Events between the ids `after` and `until` are gone; `positions`: how many of all channels that is, where it is known. */
export interface Gap {
  after: string | null;
  until: string | null;
  positions?: number;
}

/** In the place of events that are gone, among those of an async iterator. */
export interface GapEvent {
  type: "$gap";
  data: Gap;
  id: string;
}

/** `until`: when the next attempt is made, in milliseconds since 1970; `attempt`: the how many-th in vain it will be. */
export type StreamState =
  | { name: "connecting" }
  | { name: "open" }
  | { name: "waiting"; until: number; attempt: number; why: string }
  | { name: "closed"; why: string };

/** What went wrong. `final`: the stream has ended and does not come back. `status`: of the answer that refused it. */
export class StreamError extends Error {
  constructor(
    message: string,
    readonly final: boolean,
    readonly status?: number,
  ) {
    super(message);
    this.name = "StreamError";
  }
}

export type Token = string | null | undefined;

export interface StreamOptions {
  /** Where the server's /sse is: "https://events.example.org", "/edge". By default the origin of the page. */
  url?: string;
  /** Asked before each attempt; what it returns is sent as a bearer token. `again`: the last one was answered 401. */
  getToken?: (asked: { signal: AbortSignal; again: boolean }) => Token | Promise<Token>;
  /** Begin behind this event; "earliest": with all that is kept. */
  lastEventId?: string;
  /** Without `lastEventId`: begin with so many kept events. */
  history?: number;
  /** Ends the stream. */
  signal?: AbortSignal;
  /** "include": cookies go to another origin, too. */
  credentials?: RequestCredentials;
  /** Milliseconds without a byte after which the server is taken for dead; heartbeats come every 15 s by default. */
  heartbeatTimeout?: number;
  fetch?: typeof fetch;
  /** It is open again. "complete": nothing was missed; "gap": `$gap` follows. */
  onReconnect?: (how: { resume: "live" | "complete" | "gap" }) => void;
  onState?: (state: StreamState) => void;
  /** An event of a type that this file does not know: of a newer schema. */
  onUnknown?: (event: { type: string; data: string; id: string }) => void;
  /** Of an event that is wrong, behind which the stream goes on, and, but for an iterator, which throws it, of what ended
   * the stream. Without this handler it is written to the console. */
  onError?: (error: StreamError) => void;
}

export interface Handlers<Event> extends StreamOptions {
  onEvent: (event: Event) => void;
  /** Events are gone. Without this handler it is an error. */
  onGap?: (gap: Gap, id: string) => void;
}

export interface Subscription {
  close(): void;
  /** Settles when the stream has ended, by `close`, the server's word (204) or an error that is fatal. */
  readonly closed: Promise<void>;
  /** The id of the newest event: to be kept for `lastEventId`. */
  readonly lastEventId: string;
}

interface RawEvent {
  type: string;
  data: string;
  id: string;
}

const HEARTBEAT_TIMEOUT = 45_000;
const FIRST_RETRY = 1_000;
const SHORTEST_PAUSE = 100;
const LONGEST_BACKOFF = 30_000;
const LONGEST_RETRY = 86_400_000;
const MOST_CHARACTERS = 16 * 1024 * 1024; // of one event

/** The text/event-stream parser of WHATWG HTML, section 9.2.6. */
class EventReader {
  retry: number | undefined;
  private rest = "";
  private first = true;
  private afterReturn = false;
  private data: string[] = [];
  private size = 0;
  private type = "";
  private id: string;

  /** An id counts from the end of its event on: what breaks off before is sent again. */
  constructor(public lastEventId: string) {
    this.id = lastEventId;
  }

  /** The events that this text ends. */
  feed(text: string): RawEvent[] {
    if (text === "") return [];
    if (this.first && text.startsWith("\uFEFF")) text = text.slice(1);
    if (this.afterReturn && text.startsWith("\n")) text = text.slice(1);
    this.first = false;
    this.afterReturn = text.endsWith("\r");
    this.size += text.length;
    if (this.size > MOST_CHARACTERS) throw new StreamError("an event is larger than 16 MiB", true);
    this.rest += text;
    if (!/[\r\n]/.test(text)) return [];
    const lines = this.rest.split(/\r\n|\n|\r/);
    this.rest = lines.pop() ?? "";
    const events: RawEvent[] = [];
    for (const line of lines) {
      if (line !== "") {
        this.line(line);
        continue;
      }
      this.lastEventId = this.id;
      if (this.data.length > 0) events.push({ type: this.type || "message", data: this.data.join("\n"), id: this.id });
      this.data = [];
      this.type = "";
      this.size = this.rest.length;
    }
    return events;
  }

  private line(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retry = Math.min(Number(value), LONGEST_RETRY);
    else if (field === "") this.size -= line.length; // a heartbeat is of no event
  }
}

/** Over as many connections as it takes, every event once: each asks for what is behind the last one. */
class Connection {
  lastEventId: string;
  private readonly stop = new AbortController();
  private retry = FIRST_RETRY;
  private failures = 0;
  private refused = false; // the last token was
  private wasOpen = false;

  constructor(
    private readonly channel: string,
    private readonly options: StreamOptions,
  ) {
    this.lastEventId = options.lastEventId ?? "";
    if (options.signal?.aborted) this.stop.abort();
    else options.signal?.addEventListener("abort", () => this.stop.abort(), { signal: this.stop.signal });
  }

  close(): void {
    this.stop.abort();
  }

  async *events(): AsyncGenerator<RawEvent, void, undefined> {
    let ended = "it was closed here";
    try {
      while (!this.stop.signal.aborted) {
        this.tell({ name: "connecting" });
        let why = "the stream ended";
        let asked = 0;
        try {
          yield* this.attempt();
        } catch (error) {
          if (this.stop.signal.aborted) return;
          why = error instanceof Error ? error.message : String(error);
          if (error === NOTHING_MORE) return void (ended = why);
          if (error instanceof StreamError && error.final) {
            ended = why;
            throw error;
          }
          asked = error instanceof TryLater ? error.milliseconds : 0;
        }
        if (this.stop.signal.aborted) return;
        this.failures += 1;
        const pause = Math.max(this.pause(), asked);
        this.tell({ name: "waiting", until: Date.now() + pause, attempt: this.failures, why });
        await this.sleep(pause);
      }
    } finally {
      this.stop.abort();
      this.tell({ name: "closed", why: ended });
    }
  }

  private pause(): number {
    let pause = Math.max(this.retry, SHORTEST_PAUSE);
    if (this.failures > 1) pause = Math.max(pause, Math.min(pause * 2 ** Math.min(this.failures - 1, 20), LONGEST_BACKOFF));
    return Math.max(pause * (0.7 + 0.6 * Math.random()), SHORTEST_PAUSE);
  }

  private sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const signal = this.stop.signal;
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }

  private async *attempt(): AsyncGenerator<RawEvent, void, undefined> {
    const one = new AbortController();
    const end = (): void => one.abort();
    this.stop.signal.addEventListener("abort", end);
    let silent: ReturnType<typeof setTimeout> | undefined;
    let timedOut = false;
    const heard = (): void => {
      clearTimeout(silent);
      silent = setTimeout(() => {
        timedOut = true;
        one.abort();
      }, this.options.heartbeatTimeout ?? HEARTBEAT_TIMEOUT);
    };
    try {
      heard();
      const body = await this.open(one.signal);
      const reader = new EventReader(this.lastEventId);
      const text = new TextDecoder("utf-8", { ignoreBOM: true });
      const pieces = body.getReader();
      for (;;) {
        heard();
        const { done, value } = await pieces.read();
        clearTimeout(silent); // whoever takes the events may take its time
        if (done) return;
        for (const event of reader.feed(text.decode(value, { stream: true }))) {
          this.lastEventId = event.id;
          if (event.type === "$connected") this.opened(event);
          else if (event.type !== "$closing") this.failures = 0;
          yield event;
        }
        this.lastEventId = reader.lastEventId;
        if (reader.retry !== undefined) this.retry = reader.retry;
      }
    } catch (error) {
      if (timedOut) throw new Error("nothing was heard from the server");
      throw error;
    } finally {
      clearTimeout(silent);
      this.stop.signal.removeEventListener("abort", end);
      one.abort();
    }
  }

  private opened(connected: RawEvent): void {
    this.refused = false;
    this.tell({ name: "open" });
    if (this.wasOpen) call(() => this.options.onReconnect?.({ resume: JSON.parse(connected.data).resume }));
    this.wasOpen = true;
  }

  private tell(state: StreamState): void {
    call(() => this.options.onState?.(state));
  }

  private async open(signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { url = "", getToken, history, credentials = "same-origin" } = this.options;
    let query = `channel=${encodeURIComponent(this.channel)}`;
    if (this.lastEventId) query += `&last_event_id=${encodeURIComponent(this.lastEventId)}`;
    else if (history !== undefined && !this.wasOpen) query += `&history=${history}`;
    const headers: { [name: string]: string } = { Accept: "text/event-stream" };
    const token = await unless(signal, getToken?.({ signal, again: this.refused }));
    if (token) headers["Authorization"] = `Bearer ${token}`;
    const ask = this.options.fetch ?? fetch;
    const answer = await ask(`${url.replace(/\/+$/, "")}/sse?${query}`, { headers, signal, credentials, cache: "no-store" });
    if (answer.status === 204) throw NOTHING_MORE;
    if (answer.status !== 200) throw await this.refusal(answer, token);
    const kind = answer.headers.get("content-type") ?? "nothing";
    if (!/^text\/event-stream *(;|$)/i.test(kind) || !answer.body) {
      throw new StreamError(`the server answers ${kind}, not text/event-stream: another server?`, true, 200);
    }
    return answer.body;
  }

  private async refusal(answer: Response, token: Token): Promise<Error> {
    const status = answer.status;
    let detail = `the server answers ${status}`;
    try {
      const problem: { detail?: unknown } = await answer.json();
      if (typeof problem.detail === "string") detail = `${problem.detail} (${status})`;
    } catch {
      // it says no more
    }
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      return new TryLater(detail, retryAfter(answer));
    }
    if (status === 401 && token && !this.refused) {
      this.refused = true;
      return new TryLater(detail, 0); // with another one
    }
    return new StreamError(detail, true, status);
  }
}

/** Milliseconds (RFC 9110, section 10.2.3: seconds, or a date). */
function retryAfter(answer: Response): number {
  const said = answer.headers.get("retry-after") ?? "";
  const asked = /^[0-9]+$/.test(said) ? Number(said) * 1000 : Date.parse(said) - Date.now();
  return asked > 0 ? Math.min(asked, LONGEST_RETRY) : 0;
}

/** What this settles as, unless `signal` aborts first. */
function unless<T>(signal: AbortSignal, value: T | PromiseLike<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
    void Promise.resolve(value).then(resolve, reject).then(() => signal.removeEventListener("abort", aborted));
  });
}

/** What a handler throws is for the page to see; the stream goes on. */
function call(handler: () => void): void {
  try {
    handler();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

class TryLater extends Error {
  constructor(
    message: string,
    readonly milliseconds: number,
  ) {
    super(message);
  }
}

const NOTHING_MORE = new Error("the server says that nothing more will come");

function eventOf(raw: RawEvent, types: readonly string[], options: StreamOptions): { type: string; data: unknown; id: string } | undefined {
  if (!types.includes(raw.type)) {
    if (!raw.type.startsWith("$")) call(() => options.onUnknown?.(raw));
    return undefined;
  }
  try {
    return { type: raw.type, data: JSON.parse(raw.data), id: raw.id };
  } catch {
    throw new StreamError(`the data of the event ${raw.type} ${raw.id} is not JSON`, false);
  }
}

function gapOf(raw: RawEvent): Gap {
  const gap: Gap = { after: null, until: null };
  try {
    return Object.assign(gap, JSON.parse(raw.data));
  } catch {
    return gap; // it is one all the same
  }
}

function failed(options: StreamOptions, error: unknown): void {
  const told = error instanceof StreamError ? error : new StreamError(String(error), true);
  if (options.onError) options.onError(told);
  else console.error(told);
}

function subscribe<Event>(channel: string, types: readonly string[], handlers: Handlers<Event>): Subscription {
  const connection = new Connection(channel, handlers);
  const handle = (raw: RawEvent): void => {
    if (raw.type === "$gap") {
      if (handlers.onGap) handlers.onGap(gapOf(raw), raw.id);
      else failed(handlers, new StreamError(`events are gone: ${raw.data}`, false));
      return;
    }
    let event: { type: string; data: unknown; id: string } | undefined;
    try {
      event = eventOf(raw, types, handlers);
    } catch (error) {
      failed(handlers, error);
    }
    if (event) handlers.onEvent(event as Event);
  };
  const run = async (): Promise<void> => {
    try {
      for await (const raw of connection.events()) {
        call(() => handle(raw));
      }
    } catch (error) {
      failed(handlers, error);
    }
  };
  return {
    close: () => connection.close(),
    closed: run(),
    get lastEventId() {
      return connection.lastEventId;
    },
  };
}

async function* iterate<Event>(
  channel: string,
  types: readonly string[],
  options: StreamOptions,
): AsyncGenerator<Event | GapEvent, void, undefined> {
  for await (const raw of new Connection(channel, options).events()) {
    if (raw.type === "$gap") {
      yield { type: "$gap", data: gapOf(raw), id: raw.id };
    } else {
      let event: { type: string; data: unknown; id: string } | undefined;
      try {
        event = eventOf(raw, types, options);
      } catch (error) {
        call(() => failed(options, error)); // one that is wrong does not end the others
      }
      if (event) yield event as Event;
    }
  }
}

function channelPart(name: string, value: string | number | boolean): string {
  const text = String(value);
  if (text === "" || text.includes(":")) throw new TypeError(`${name} is a part of a channel's name: some text without ":", not ${JSON.stringify(text)}`);
  return text;
}
