import { isOurs, orderOf, parsedOr } from "./parser.js";
import { ANSWER, listenTo, LiveStream, unlessAborted, whoOf } from "./stream.js";
import { TabGroup } from "./tabs.js";
import { type Connection, type FilledOptions, type Gap, type ParsedEvent, platform, type SharedName, StreamError, type StreamEvent, type StreamFrame, type StreamOptions, type StreamSource, type StreamState } from "./types.js";

/** Which script this is: by default a stream is of the edge that served it. */
const SCRIPT: string | undefined = import.meta.url;

interface EventQueue<T> {
  events: T[];
  wakes: Array<() => void>;
}

class PageConnection<T> implements Connection<T> {
  lastEventId: string;
  #options: FilledOptions<T>;
  #state: StreamState = { name: "connecting" };
  #closed = false;
  #connected = false; // has been
  #insync = true; // with a stream that began at an id which can't be compared to mine
  #shared: SharedName | null | undefined; // the group's; null: it is not shared
  #moved = false; // to another group, and has not been of it yet
  #run: TabGroup<T> | LiveStream<T> | undefined;
  #begun = 0; // how often, so that who was overtaken notices
  #handlers = new Map<string, Set<(event: T, raw: StreamEvent) => void>>();
  #queues = new Set<EventQueue<T>>();
  #room: (() => void) | undefined;
  #ends: Array<() => void>;

  constructor(options: FilledOptions<T>) {
    this.#options = options;
    this.lastEventId = options.lastEventId;
    const { window, document } = platform;
    const { signal } = options;
    this.#ends = [
      listenTo(window, "pagehide", () => this.#suspend()),
      listenTo(window, "pageshow", ({ persisted }) => persisted && this.#begin()),
      listenTo(document, "freeze", () => this.#suspend()),
      listenTo(document, "resume", () => this.#begin()),
      listenTo(document, "visibilitychange", () => document.hidden || this.#isLookedAt()),
      listenTo(signal, "abort", () => this.close()),
    ];
    if (signal?.aborted) this.close();
    else void this.#begin();
  }

  get state(): StreamState {
    return this.#state;
  }

  on(type: string, handler: (event: T, raw: StreamEvent) => void): () => void {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  reconnect(): void {
    this.#run?.nudge();
  }

  close(): void {
    this.#told({ name: "closed", why: "by the page" });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    const queue: EventQueue<T> = { events: [], wakes: [] };
    this.#queues.add(queue);
    const leave = async (): Promise<IteratorResult<T>> => {
      this.#queues.delete(queue);
      this.#drained();
      return { done: true, value: undefined };
    };
    return {
      next: async () => {
        while (!queue.events.length) {
          if (this.#state.name === "closed" && this.#state.error) throw this.#state.error;
          if (this.#closed || !this.#queues.has(queue)) return leave();
          await new Promise<void>((wake) => queue.wakes.push(wake));
        }
        const value = queue.events.shift() as T;
        this.#drained();
        return { done: false, value };
      },
      return: leave,
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  // ---- its stream ----

  async #begin(): Promise<void> {
    if (this.#run || this.#closed) return;
    const begun = ++this.#begun;
    while (this.#shared === undefined) {
      try {
        const shared = await this.#options.sharedAs();
        if (this.#isOver(begun)) return;
        this.#shared = shared;
      } catch (error) { // the token could not be had
        if (this.#isOver(begun)) return;
        this.#failed(error);
        const until = Date.now() + this.#options.maxDelay * Math.random();
        this.#told({ name: "waiting", until, attempt: 1, why: String((error as Error)?.message ?? error) });
        await new Promise((done) => setTimeout(done, until - Date.now()));
      }
    }
    if (this.#isOver(begun) || this.#run) return;
    const told = {
      error: (error: unknown) => this.#failed(error),
      asks: (who: string) => this.#asks(who),
      state: (state: StreamState) => this.#told(state),
      room: () => (this.#full ? new Promise<void>((room) => { this.#room = room; }) : undefined),
    };
    const take = (frames: StreamFrame[], asked: string, shared = false): void => this.#take(frames, asked, shared);
    if (this.#shared === null) {
      this.#run = new LiveStream(this.#options, this.lastEventId, { ...told, frames: take });
      return;
    }
    const page = this;
    this.#run = new TabGroup<T>(this.#shared.name, {
      stream: (to) => new LiveStream(this.#options, this.lastEventId, { ...told, ...to }),
      take,
      state: told.state,
      room: told.room,
      begin: (at, state) => {
        this.#insync = true;
        this.#connected ||= state.name === "open";
        this.lastEventId ||= at;
        this.#told(state);
      },
      get lastEventId() { return page.lastEventId; },
      get full() { return page.#full; },
      get told() { return page.#state; },
      wantsHistory: /[?&](history|[\w-]*last[-_]?event[-_]?id)=/i.test(this.#options.url),
    });
  }

  /** Something else was begun meanwhile, or it was closed. */
  #isOver(begun: number): boolean {
    return begun !== this.#begun || this.#closed;
  }

  /** Nobody's events are for the tabs of another: when the page asks as somebody else it leaves the group, for theirs. Who
   * is another one each time has a stream of its own. */
  #asks(who: string): void {
    const known = this.#shared?.who;
    if (known === undefined) return;
    if (known === who) return void (this.#moved = false);
    this.#halt();
    this.#shared = this.#moved ? null : undefined;
    this.#moved = true;
    void this.#begin();
  }

  /** Who follows another tab sends no token. So it is seen here whether the page is somebody else's by now. */
  async #isLookedAt(): Promise<void> {
    const run = this.#run;
    run?.nudge();
    if (!(run instanceof TabGroup) || !run.follows || this.#shared?.who === undefined) return;
    try {
      const now = await this.#options.sharedAs();
      if (run === this.#run && run.follows && now?.who !== undefined) this.#asks(now.who);
    } catch {
      // it is asked for when this tab leads
    }
  }

  /** The page is put aside, or frozen: another tab is to hold the stream. */
  #suspend(): void {
    this.#begun++;
    this.#halt();
    if (!this.#closed) this.#told({ name: "waiting", until: null, attempt: 0, why: "the page is put aside" });
  }

  #halt(): void {
    const run = this.#run;
    this.#run = undefined;
    run?.stop();
  }

  #told(state: StreamState): void {
    if (this.#closed) return;
    this.#state = state;
    if (state.name === "closed") {
      this.#closed = true;
      this.#halt();
      for (const end of this.#ends ?? []) end();
      if (state.error) this.#failed(state.error);
      for (const queue of this.#queues) for (const wake of queue.wakes.splice(0)) wake();
    }
    this.#call(this.#options.onState, state);
  }

  // ---- its events ----

  /** Of a stream that began behind the id `asked`. `shared`: it may be of before what this page has. */
  #take(frames: StreamFrame[], asked: string, shared: boolean): void {
    for (const { event, own } of frames) {
      if (this.#closed) return;
      const here = this.lastEventId;
      if (event.type === "$connected") {
        this.#insync = !here || orderOf(asked, here) !== undefined;
        if (this.#connected && asked === here) {
          this.#call(this.#options.onReconnect, { resume: parsedOr(event.data, {}).resume });
        }
        this.#connected = true;
        this.lastEventId ||= event.id;
        continue;
      }
      if (shared && here && event.id) {
        const ahead = orderOf(event.id, here);
        this.#insync ||= ahead !== undefined;
        if (!this.#insync || (ahead !== undefined && (ahead < 0 || (ahead === 0 && own)))) continue;
      }
      this.lastEventId = event.id;
      this.#give(event, here);
    }
  }

  #give(event: ParsedEvent, after: string): void {
    const options = this.#options;
    const said = isOurs(event) ? parsedOr(event.data, {}) : undefined;
    if (event.tooLong) {
      this.#failed(new StreamError(`an event of more than ${options.maxEventSize} characters was left out`), event);
    } else if (event.type === "$gap") {
      const gap: Gap = { after: null, until: null, ...said };
      this.#lost(gap.after === after || !after ? gap : { after, until: gap.until }, event);
    } else if (event.type === "$expiring") this.#call(options.onExpiring, said);
    else if (event.type === "$closing") this.#call(options.onClosing, said);
    else if (event.type === "$forgotten") this.#call(options.onForgotten, { ...said, id: event.id });
    else this.#deliver(event);
  }

  #lost(gap: Gap, event: StreamEvent): void {
    const { onGap, decodeGap } = this.#options;
    this.#call(onGap, gap, event.id, event);
    if (decodeGap) this.#call(() => this.#enqueue(decodeGap(gap, event.id)), undefined);
  }

  #deliver(event: StreamEvent): void {
    let decoded = event as unknown as T;
    try {
      if (this.#options.decode) decoded = this.#options.decode(event);
    } catch (error) {
      return this.#failed(error, event);
    }
    this.#call(this.#options.onEvent, decoded, event, event);
    for (const handler of this.#handlers.get(event.type) ?? []) this.#call(handler, decoded, event, event);
    this.#enqueue(decoded);
  }

  #enqueue(value: T): void {
    for (const queue of this.#queues) {
      queue.events.push(value);
      for (const wake of queue.wakes.splice(0)) wake();
    }
  }

  /** A handler that throws is told of, and the stream goes on. */
  #call<V, W>(handler: ((value: V, also: W) => void) | undefined, value: V, also?: W, event?: StreamEvent): void {
    try {
      handler?.(value, also as W);
    } catch (error) {
      this.#failed(error, event);
    }
  }

  #failed(error: unknown, event?: StreamEvent): void {
    const { onError } = this.#options;
    try {
      if (onError) return void onError(error, event);
      if (error instanceof StreamError) return;
    } catch (another) {
      error = another;
    }
    (platform.reportError ?? console.error)(error);
  }

  // ---- its queues ----

  get #full(): boolean {
    return [...this.#queues].some(({ events }) => events.length >= this.#options.queueSize);
  }

  #drained(): void {
    if ([...this.#queues].some(({ events }) => events.length > this.#options.queueSize / 2)) return;
    this.#room?.();
    this.#room = undefined;
    if (this.#run instanceof TabGroup) this.#run.drained();
  }
}

/** The URL of a stream. Without one it is of the edge that served this module. */
function urlOf(source: string | URL | StreamSource): string {
  const given: StreamSource = typeof source === "string" || source instanceof URL ? { url: source } : source;
  const base: string | undefined = platform.document?.baseURI ?? SCRIPT;
  let url: URL;
  try {
    url = new URL(given.url ?? new URL("sse", SCRIPT), base);
  } catch {
    throw new TypeError(`url: ${given.url ?? "none"} is no address that a stream can be asked for at; write it whole, with its host`);
  }
  for (const channel of given.channels ?? []) url.searchParams.append("channel", channel);
  for (const pattern of given.patterns ?? []) url.searchParams.append("pattern", pattern);
  if (given.history) url.searchParams.set("history", String(given.history));
  if (given.envelope) url.searchParams.set("envelope", "json");
  if (given.allowedOnly) url.searchParams.set("allowed", "only");
  return url.href;
}

/** null: it is not shared. */
async function sharedAs<T>(options: FilledOptions<T>): Promise<SharedName | null> {
  const { shareAcrossTabs: share, url, credentials } = options;
  const { navigator, BroadcastChannel, crypto } = platform;
  if (!share || !navigator?.locks || !BroadcastChannel || !crypto?.subtle) return null;
  if (await navigator.locks.query().then(() => false, () => true)) return null; // in a sandbox
  let who: string | undefined;
  if (share === true) {
    const signal = AbortSignal.timeout(ANSWER);
    const headers = await unlessAborted(signal, options.headersNow());
    who = whoOf(headers, await unlessAborted(signal, options.tokenNow({ signal, again: false })));
  }
  const said = new TextEncoder().encode(JSON.stringify([url, credentials, who ? [who] : share]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", said)); // so that no token is in a name
  const name = "sse_fast " + Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { name, who };
}

/** Open a stream, and keep it open until `close`. */
export function connect(source: string | URL | StreamSource, options?: StreamOptions & { decode?: undefined }): Connection;
export function connect<T>(source: string | URL | StreamSource, options: StreamOptions<T> & { decode: (event: StreamEvent) => T }): Connection<T>;
export function connect<T>(source: string | URL | StreamSource, options: StreamOptions<T> = {}): Connection<T> {
  const { headers, getToken } = options;
  const all: FilledOptions<T> = {
    minDelay: 1000, maxDelay: 30_000, queueSize: 1000, maxEventSize: 8 * 1024 * 1024, lastEventId: "",
    credentials: "same-origin", fetch: (...given) => fetch(...given),
    ...options,
    url: urlOf(source),
    headersNow: async () => (typeof headers === "function" ? headers() : headers),
    tokenNow: async (why) => getToken?.(why),
    sharedAs: () => sharedAs(all),
  };
  return new PageConnection(all);
}
