import { orderOf } from "./parser.js";
import { type LiveStream, TICK } from "./stream.js";
import { platform, type StreamFrame, type StreamListener, type StreamState } from "./types.js";

const ASK_LEADER = 5000; // ms without a word from who holds the stream
const NO_ANSWER = 1000; // ms, and up to twice that: then the stream is taken over

const uniqueId = (): string => Math.random().toString(36).slice(2) + Date.now().toString(36);

/** What a page is to its group. */
export interface TabHome<T> {
  readonly lastEventId: string;
  readonly full: boolean;
  readonly told: StreamState;
  readonly wantsHistory: boolean;
  stream(to: Omit<StreamListener, "error" | "asks">): LiveStream<T>;
  take(frames: StreamFrame[], asked: string, shared?: boolean): void;
  state(state: StreamState): void;
  begin(at: string, state: StreamState): void;
  room(): Promise<void> | undefined;
}

interface TabMessage {
  hello?: string;
  ping?: string;
  to?: string;
  from?: string;
  number?: number;
  at?: string;
  state?: StreamState;
  frames?: StreamFrame[];
  asked?: string;
  leads?: string;
  gone?: string;
  nudge?: boolean;
}

/**
 * One stream for all tabs that have the same name for it. A Web Lock says who leads: that tab holds the stream, and tells
 * the others by a BroadcastChannel, which keeps the order and loses nothing; messages are numbered all the same.
 *
 *   {hello, at}                          a tab that wants to follow, and its place
 *   {to, from, number, at, state}        the answer: from here on each message counts. If its place was behind the
 *                                        stream's, the leader goes back there first, and who was past it skips
 *   {from, number, at, frames, asked}, {from, number, state}
 *   {ping} -> {to, from, number}         is somebody there, and was all of it heard
 *   {leads}, {gone}                      say hello (again)
 *   {nudge}                              somebody looks
 *
 * Places in different epochs can't be compared: a tab that is at another one than the leader has a stream of its own
 * until that has brought it here. Likewise one that opens with history.
 */
export class TabGroup<T> {
  #id = uniqueId();
  #name: string;
  #home: TabHome<T>;
  #channel: any; // eslint-disable-line
  #queued = new AbortController();
  #release: (() => void) | undefined;
  #leads: string | undefined; // my name as the leader
  #number = 0;
  #follows: { from: string; number: number } | undefined;
  #asked = 0; // when a question was sent that is not answered
  #heard = Date.now();
  #at: string | undefined; // where the leader's stream is
  #stream: LiveStream<T> | undefined; // I lead, or am on my own
  #hadHistory = false;
  #behind = false; // something was left out, as nobody takes it
  #closed = false;
  #timer = setInterval(() => this.#tick(), TICK);

  constructor(name: string, home: TabHome<T>) {
    this.#name = name;
    this.#home = home;
    this.#channel = new platform.BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: { data: TabMessage }) => this.#hear(data);
    void this.#queue({ signal: this.#queued.signal });
    this.#join();
  }

  /** It has another tab's stream, and sends no token of its own. */
  get follows(): boolean {
    return this.#follows !== undefined;
  }

  stop(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#stream?.stop();
    this.#queued.abort();
    this.#release?.();
    this.#channel.close();
  }

  nudge(): void {
    this.#stream?.nudge();
    this.#post({ nudge: true });
    this.#tick();
  }

  /** The page takes events again. */
  drained(): void {
    if (!this.#behind) return;
    this.#behind = false;
    const here = this.#home.lastEventId;
    if (!this.#leads) this.#join();
    else if (this.#stream && !((orderOf(here, this.#stream.lastEventId) ?? -1) >= 0)) {
      this.#stream.restart(here); // never on: others may be behind
    }
  }

  /** Lead when it is my turn. */
  async #queue(how: { signal?: AbortSignal; steal?: boolean }): Promise<void> {
    const queued = this.#queued;
    const lead = (): unknown => this.#closed || queued !== this.#queued || this.#lead();
    try {
      await platform.navigator.locks.request(this.#name, how, lead);
    } catch (error) { // it was taken from me, or is no longer waited for
      if ((error as Error).name !== "AbortError") await new Promise((done) => setTimeout(done, TICK));
    }
    if (this.#closed || queued !== this.#queued) return;
    this.#stepDown();
    void this.#queue({ signal: queued.signal });
  }

  #steal(): void {
    this.#queued.abort();
    this.#queued = new AbortController();
    this.#asked = 0;
    void this.#queue({ steal: true });
  }

  #lead(): Promise<void> {
    this.#alone();
    this.#leads = uniqueId();
    this.#follows = undefined;
    this.#asked = this.#number = 0;
    this.#behind &&= this.#home.full;
    this.#post({ leads: this.#leads });
    const stream: LiveStream<T> = (this.#stream = this.#home.stream({
      frames: (frames, asked) => {
        const others = frames.filter(({ event }) => !/^\$(expiring|closing)$/.test(event.type));
        this.#say({ at: stream.lastEventId, frames: others, asked });
        this.#take(frames, asked);
      },
      state: (state) => {
        if (state.name !== "closed") this.#say({ state }); // who leads next asks for itself
        this.#home.state(state);
      },
      room: () => undefined,
    }));
    return new Promise((release) => {
      this.#release = release;
    });
  }

  #stepDown(): void {
    if (!this.#leads) return;
    const gone = this.#leads;
    this.#leads = undefined;
    this.#release?.();
    this.#alone();
    this.#post({ gone });
    this.#join();
  }

  /** Until the leader and I can be compared. */
  #onMyOwn(): void {
    this.#hadHistory = true;
    this.#stream ??= this.#home.stream({
      frames: (frames, asked) => {
        this.#home.take(frames, asked);
        this.#compare();
      },
      state: (state) => this.#home.state(state),
      room: () => this.#home.room(),
    });
  }

  #compare(): void {
    if (this.#leads || !this.#stream || orderOf(this.#home.lastEventId, this.#at) === undefined) return;
    this.#alone();
    this.#join();
  }

  #alone(): void {
    this.#stream?.stop();
    this.#stream = undefined;
  }

  #take(frames: StreamFrame[], asked: string): void {
    this.#behind ||= this.#home.full;
    if (!this.#behind) this.#home.take(frames, asked, true);
  }

  #post(message: TabMessage): void {
    if (!this.#closed) this.#channel.postMessage(message);
  }

  #say(message: TabMessage): void {
    if (this.#leads) this.#post({ from: this.#leads, number: ++this.#number, ...message });
  }

  #join(): void {
    this.#follows = undefined;
    if (this.#leads || this.#behind) return;
    this.#asked = Date.now();
    this.#post({ hello: this.#id, at: this.#home.lastEventId });
  }

  #hear(message: TabMessage): void {
    const { hello, ping, to, from, number, at, state, frames, asked, leads, gone, nudge } = message;
    if (this.#closed) return;
    if (leads) this.#leads ? this.#stepDown() : this.#join();
    else if (gone && gone === this.#follows?.from) this.#join();
    else if (nudge) this.#stream?.nudge();
    else if (hello || ping) {
      if (this.#leads) this.#answer(hello, ping, at);
    } else if (to === this.#id) this.#welcome(message);
    else if (from && at !== undefined) {
      this.#at = at;
      this.#compare();
    }
    if (to || !from || !this.#follows || from !== this.#follows.from) return;
    this.#heard = Date.now();
    if (number !== ++this.#follows.number) this.#join();
    else if (state) this.#home.state(state);
    else if (frames) this.#take(frames, asked ?? "");
  }

  #answer(hello: string | undefined, ping: string | undefined, at: string | undefined): void {
    const stream = this.#stream;
    const to = hello ?? ping;
    if (!stream || !this.#leads || !to) return;
    const mine = { to, from: this.#leads, number: this.#number };
    if (ping) {
      stream.look(); // timers of a hidden tab run once a minute, messages at once
      return this.#post(mine);
    }
    if (at && (orderOf(at, stream.lastEventId) ?? 0) < 0) stream.restart(at);
    // Who is new begins where this page is, however far the stream went back for others.
    this.#post({ ...mine, at: at ? stream.lastEventId : this.#home.lastEventId, state: stream.state });
  }

  #welcome({ from = "", number = 0, at = "", state }: TabMessage): void {
    this.#asked = 0;
    this.#heard = Date.now();
    if (state === undefined) { // of a ping
      if (from !== this.#follows?.from || number !== this.#follows.number) this.#join();
      return;
    }
    if (this.#leads || this.#follows) return;
    this.#at = at;
    const here = this.#home.lastEventId;
    if (here ? orderOf(here, at) === undefined : this.#home.wantsHistory && !this.#hadHistory) return this.#onMyOwn();
    this.#alone();
    this.#follows = { from, number };
    this.#home.begin(at, state);
  }

  #tick(): void {
    const now = Date.now();
    if (this.#leads || this.#behind) return;
    const told = this.#home.told;
    if (told.name === "waiting" && told.until && now > told.until) this.#post({ ping: this.#id });
    if (this.#asked) {
      if (now - this.#asked > NO_ANSWER * (1 + Math.random())) this.#steal();
    } else if (now - this.#heard > ASK_LEADER) {
      this.#asked = now;
      this.#post({ ping: this.#id });
    }
  }
}
