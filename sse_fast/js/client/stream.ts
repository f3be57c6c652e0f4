import { EventStreamParser, isOurs, parsedOr } from "./parser.js";
import { type FilledOptions, type HeadersGiven, platform, StreamError, type StreamFrame, type StreamListener, type StreamState, type Token } from "./types.js";

export const TICK = 1000; // ms: how often clocks are looked at, as a machine that slept runs its timers late
const SILENCE = 45_000; // ms without a byte, until the stream's own heartbeats are known
export const ANSWER = 20_000; // ms until an attempt has its answer
const LONGEST_SILENCE = 300_000; // where there seem to be none
const LONGEST_WAIT = 86_400_000; // ms that a server may ask for
const STABLE = 10_000; // ms open, after which a drop is the first one again
const AGAIN = new DOMException("again", "AbortError"); // at once, and nobody need be told
const STALLED = new DOMException("nothing came, not even a heartbeat", "TimeoutError");

/** What follows from the end of an attempt. */
interface AttemptEnd {
  why: string;
  /** Milliseconds, at least. */
  wait: number;
  reason?: string;
  planned?: boolean;
  atOnce?: boolean;
  closed?: boolean;
}

/** An id as a header says it: in UTF-8, as EventSource does; `Headers` takes a character for each byte. */
const inUtf8 = (id: string): string => Array.from(new TextEncoder().encode(id), (byte) => String.fromCharCode(byte)).join("");

const isOffline = (): boolean => platform.navigator?.onLine === false;

/** What a promise says, unless `signal` aborts first. */
export async function unlessAborted<V>(signal: AbortSignal, promise: Promise<V>): Promise<V> {
  let end = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    end = listenTo(signal, "abort", () => reject(signal.reason));
  });
  try {
    signal.throwIfAborted();
    return await Promise.race([promise, aborted]);
  } finally {
    end();
  }
}

/** Listen to a target, if there is one; returns what ends that. */
export function listenTo(target: any, type: string, handler: (event: any) => void): () => void { // eslint-disable-line
  target?.addEventListener?.(type, handler);
  return () => target?.removeEventListener?.(type, handler);
}

/** Milliseconds that `Retry-After` asks for (RFC 9110, section 10.2.3). */
function retryAfter(response: Response): number {
  const said = response.headers.get("Retry-After") ?? "";
  const wait = /^\d+$/.test(said) ? 1000 * Number(said) : Date.parse(said) - Date.now();
  return wait > 0 ? Math.min(wait, LONGEST_WAIT) : 0;
}

/** What a refusal says of itself: problem+json (RFC 9457), of which the first piece is enough. */
async function detailOf(response: Response): Promise<string | undefined> {
  try {
    const { value } = await response.body!.getReader().read();
    return parsedOr(new TextDecoder().decode(value), {}).detail;
  } catch {
    return undefined;
  }
}

/** Who a token lets in, whenever it was signed: of a JWT its claims, but for those of the signing. */
function holderOf(token: Token): unknown {
  try {
    const [, claims] = token!.split(".");
    const { exp, iat, nbf, jti, ...holder } = JSON.parse(atob(claims!.replace(/-/g, "+").replace(/_/g, "/")));
    return holder;
  } catch {
    return token;
  }
}

/** As whom an attempt asks, as text. */
export const whoOf = (headers: HeadersGiven, token: Token): string => {
  const names: Array<[string, string]> = [];
  new Headers(headers).forEach((value, name) => names.push([name, value]));
  return JSON.stringify([names, holderOf(token)]);
};

/** One stream, until `stop`. */
export class LiveStream<T> {
  lastEventId: string;
  state: StreamState = { name: "connecting" };
  #options: FilledOptions<T>;
  #to: StreamListener;
  #stopped = false;
  #attempt = new AbortController();
  #wake: (() => void) | undefined; // ends the wait
  #until: number | null = null; // of the wait, ms since 1970; null: as long as it takes
  #failures = 0;
  #retry: number | undefined;
  #token: Token; // sent with the attempt
  #ahead: Token; // fetched before it is needed
  #again = false; // the last answer was 401
  #heard: number | null = null; // when something came last; null: nobody reads
  #looked = 0;
  #beat = 0; // the longest silence before a heartbeat, ms
  #beats = 0; // heartbeats that were alone
  #stalls = 0;
  #headed = false;
  #ends: Array<() => void>;

  constructor(options: FilledOptions<T>, lastEventId: string, to: StreamListener) {
    this.#options = options;
    this.#to = to;
    this.lastEventId = lastEventId;
    const timer = setInterval(() => this.look(), TICK);
    this.#ends = [
      () => clearInterval(timer),
      listenTo(platform, "online", () => {
        this.restart();
        this.nudge();
      }),
    ];
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#attempt.abort(AGAIN);
    this.#wake?.();
    for (const end of this.#ends) end();
  }

  /** Go on behind that id: at once, or when the wait is over. */
  restart(lastEventId = this.lastEventId): void {
    this.lastEventId = lastEventId;
    this.#attempt.abort(AGAIN);
  }

  /** Somebody is there: wait no longer. */
  nudge(): void {
    if (!isOffline()) this.#wake?.();
    this.look();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      while (isOffline() && !this.#stopped) await this.#wait(null, "offline");
      if (this.#stopped) return;
      if (this.state.name !== "open") this.#tell({ name: "connecting" });
      const attempt = (this.#attempt = new AbortController());
      const began = (this.#heard = this.#looked = Date.now());
      const ended: AttemptEnd = { why: "the stream ended", wait: 0 };
      try {
        await this.#listen(attempt.signal, ended);
      } catch (error) {
        if (this.#stopped) return;
        const reason: any = attempt.signal.aborted ? attempt.signal.reason : error; // eslint-disable-line
        if (reason === AGAIN) continue;
        if (reason instanceof StreamError && reason.final) {
          this.stop();
          return this.#to.state((this.state = { name: "closed", why: reason.message, error: reason }));
        }
        ended.why = String(reason?.message ?? reason);
        // Of a machine that slept, mostly: at once, and no error if that helps.
        if (reason === STALLED && this.#headed && !this.#failures++) continue;
        this.#to.error(reason instanceof StreamError ? reason : new StreamError(ended.why, { cause: reason }));
      } finally {
        attempt.abort(AGAIN); // a body that nobody reads to its end would keep its connection
      }
      if (this.#hasStopped()) return;
      if (ended.closed) {
        this.stop();
        return this.#to.state((this.state = { name: "closed", why: "the server has nothing more" }));
      }
      const lasted = this.#headed ? Date.now() - began : 0;
      if (lasted > (ended.planned ? TICK : STABLE)) this.#failures = 0;
      if (ended.atOnce) continue;
      const { minDelay, maxDelay } = this.#options;
      const jitter = Math.random() * Math.min(maxDelay, minDelay * (2 ** this.#failures - 1));
      this.#failures++;
      await this.#wait(Math.max(ended.wait, (this.#retry ?? minDelay) + jitter), ended.why);
    }
  }

  /** Meanwhile: a compiler would take it for what it was before. */
  #hasStopped(): boolean {
    return this.#stopped;
  }

  #tell(state: StreamState): void {
    if (state.name === "open" && this.state.name === "open") return;
    this.#to.state((this.state = state));
  }

  async #wait(ms: number | null, why: string): Promise<void> {
    if (isOffline()) [ms, why] = [null, "offline"];
    this.#until = ms === null ? null : Date.now() + ms;
    this.#tell({ name: "waiting", until: this.#until, attempt: this.#failures, why });
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((wake) => {
      this.#wake = wake;
      if (ms !== null) timer = setTimeout(wake, Math.min(ms, 2 ** 31 - 1));
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  /** One attempt. */
  async #listen(signal: AbortSignal, ended: AttemptEnd): Promise<void> {
    const options = this.#options;
    this.#headed = false;
    const headers = new Headers(await unlessAborted(signal, options.headersNow()));
    const ahead = this.#ahead;
    this.#ahead = undefined;
    this.#token = ahead ?? (await unlessAborted(signal, options.tokenNow({ signal, again: this.#again })));
    this.#to.asks(whoOf(headers, this.#token));
    signal.throwIfAborted(); // by who was told
    headers.set("Accept", "text/event-stream");
    if (this.#token) headers.set("Authorization", `Bearer ${this.#token}`);
    const asked = this.lastEventId;
    if (asked) headers.set("Last-Event-ID", inUtf8(asked));
    const asking = { headers, credentials: options.credentials, cache: "no-store" as const, signal };
    const response = await options.fetch(options.url, asking);
    if (response.status === 204) return void (ended.closed = true);
    if (response.status !== 200) return this.#refused(response, ended);
    const type = response.headers.get("Content-Type") ?? "nothing";
    if (!/^text\/event-stream *(;|$)/i.test(type) || !response.body) {
      throw new StreamError(`the answer is no event stream but ${type}`, { final: true, status: 200 });
    }
    this.#again = false;
    this.#headed = true;
    let enveloped = false;
    let frames: StreamFrame[] = [];
    let leftOut: string[] = [];
    let last = asked;
    const parser = new EventStreamParser((event) => {
      const own = event.id !== last;
      last = event.id;
      if (event.type === "$connected") {
        const said = parsedOr(event.data, {});
        enveloped = said.envelope === "json";
        leftOut = said.left_out ?? [];
      } else if (event.type === "$closing") {
        ended.reason = String(parsedOr(event.data, {}).reason);
        ended.why = `the server closes: ${ended.reason}`;
        ended.planned = ended.reason === "expired" || ended.reason === "age";
      } else if (event.type === "$expiring") void this.#renew(signal);
      else if (enveloped && (!isOurs(event) || event.type === "$forgotten")) { // that one is its channel's
        const { channel, channels = [channel], time, data } = parsedOr(event.data, {});
        Object.assign(event, { channel, channels, time, data });
      }
      frames.push({ event, own });
    }, { lastEventId: asked, most: options.maxEventSize });
    const reader = response.body.getReader();
    listenTo(signal, "abort", () => reader.cancel().catch(() => {}));
    for (;;) {
      const room = this.#to.room();
      if (room) {
        this.#heard = null;
        await unlessAborted(signal, room);
        this.#heard = Date.now();
      }
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      const now = Date.now();
      const silence = now - (this.#heard ?? now);
      this.#heard = now;
      parser.feed(value);
      this.lastEventId = parser.lastEventId;
      if (parser.retry !== undefined) this.#retry = Math.min(parser.retry, LONGEST_WAIT);
      if (!frames.length && value.length < 3) {
        this.#beat = Math.max(this.#beat, Math.min(silence, SILENCE));
        this.#beats++;
      }
      if (!ended.reason) this.#tell({ name: "open", leftOut });
      const came = frames;
      frames = [];
      if (came.length) this.#to.frames(came, asked);
      signal.throwIfAborted(); // by who was told
    }
  }

  async #refused(response: Response, ended: AttemptEnd): Promise<void> {
    const { status } = response;
    const detail = await detailOf(response);
    const hint = status === 404 ? " (beside an app an edge is under its path: /edge/sse)" : "";
    const message = `the server answers ${status}${detail ? `: ${detail}` : ""}${hint}`;
    const again = status === 401 && this.#options.getToken !== undefined && !this.#again;
    const final = status < 500 && ![408, 425, 429].includes(status) && !again;
    this.#again = status === 401;
    if (again) return void (ended.atOnce = true);
    ended.wait = retryAfter(response);
    throw new StreamError(message, { final, status, ...(detail === undefined ? {} : { detail }) });
  }

  /** The credential ends soon: have the next one, and go on with it. */
  async #renew(signal: AbortSignal): Promise<void> {
    if (!this.#options.getToken) return;
    try {
      const token = await this.#options.tokenNow({ signal, again: false });
      if (!token || token === this.#token || this.#stopped) return;
      this.#ahead = token;
      if (!signal.aborted) this.restart();
    } catch {
      // it is asked for again when the stream has ended
    }
  }

  /** Silence that a stream can't have unless something is wrong, ms; 0: that is not known. Heartbeats come after half of
   * their interval at the earliest. A few of them: the first were perhaps read late, by a page that was busy. */
  get #interval(): number {
    return this.#beats > 2 ? 2 * this.#beat : 0;
  }

  get #patience(): number {
    const learnt = this.#interval ? 1.5 * this.#interval + TICK : Math.min(LONGEST_SILENCE, SILENCE * 2 ** this.#stalls);
    return this.#options.heartbeatTimeout ?? learnt;
  }

  /** See whether the stream lives, and whether a wait is over. */
  look(): void {
    const now = Date.now();
    const interval = this.#interval;
    if (this.#wake) {
      if (this.#until !== null && now >= this.#until) this.#wake();
      return;
    }
    if (this.#headed) this.#tell({ name: "open", leftOut: [] }); // a stream that has nothing to say yet
    else if (this.state.name === "open" && now - (this.#heard ?? now) > 2 * TICK) this.#tell({ name: "connecting" });
    const slept = interval && now - this.#looked > interval + 2 * TICK && this.#heard !== null && this.#heard <= this.#looked;
    this.#looked = now;
    if (this.#heard === null) return;
    if (now < this.#heard) this.#heard = now; // the clock was set back
    if (now - this.#heard > (this.#headed ? this.#patience : ANSWER) || slept) {
      if (this.#headed && !interval) this.#stalls++;
      this.#beat = this.#beats = 0;
      this.#attempt.abort(STALLED);
    }
  }
}
