/** The browser client of sse_fast: one stream by fetch, with headers, that comes back and resumes exactly, and that all tabs
 * of a page may share. No dependencies; what of the browser is missing (as in Node) is done without. */
/** Why there is no stream. `final`: nor will there be. `status` and `detail` are those of the answer. */
class StreamError extends Error {
    name = "StreamError";
    final;
    status;
    detail;
    constructor(message, { final = false, status, detail, cause } = {}) {
        super(message);
        this.final = final;
        this.status = status;
        this.detail = detail;
        if (cause !== undefined)
            Object.assign(this, { cause });
    }
}
/** Of the browser there is what there is. */
const platform = globalThis; // eslint-disable-line
/** An event stream, in pieces of any size (WHATWG HTML, section 9.2.6). Of an event longer than `most` characters only its
 * type and id stay, and it is `tooLong`. */
class EventStreamParser {
    lastEventId;
    /** Milliseconds, once the stream has said so. */
    retry;
    #decoder = new TextDecoder(); // drops the byte order mark, and keeps a letter cut in two
    #rest = ""; // of the line that has not ended
    #afterCR = false; // an LF next belongs to it
    #type = "";
    #data = [];
    #size = 0;
    #tooLong = false;
    #id;
    #most;
    #onEvent;
    constructor(onEvent, { lastEventId = "", most = Infinity } = {}) {
        this.lastEventId = this.#id = lastEventId;
        this.#most = most;
        this.#onEvent = onEvent;
    }
    feed(bytes) {
        let text = this.#decoder.decode(bytes, { stream: true });
        if (!text)
            return;
        if (this.#afterCR && text[0] === "\n")
            text = text.slice(1);
        this.#afterCR = text.endsWith("\r");
        const lines = text.split(/\r\n|\r|\n/);
        lines[0] = this.#rest + lines[0];
        this.#rest = lines.pop() ?? "";
        for (const line of lines)
            this.#line(line);
        if (this.#rest.length > this.#most) {
            if (this.#rest[0] !== ":")
                this.#drop();
            this.#rest = ":"; // what follows of this line is nothing
        }
    }
    #drop() {
        this.#tooLong = true;
        this.#data = [];
        this.#size = 0;
    }
    #line(line) {
        if (!line)
            return this.#dispatch();
        const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? [];
        if (field === "data") {
            this.#data.push(value);
            if ((this.#size += value.length + 1) > this.#most || this.#tooLong)
                this.#drop();
        }
        else if (field === "event")
            this.#type = value;
        else if (field === "id" && !value.includes("\0"))
            this.#id = value;
        else if (field === "retry" && /^[0-9]+$/.test(value))
            this.retry = Number(value);
    }
    #dispatch() {
        const event = { type: this.#type || "message", data: this.#data.join("\n"), id: this.#id };
        const empty = !this.#data.length && !this.#tooLong;
        if (this.#tooLong)
            event.tooLong = true;
        this.lastEventId = this.#id;
        this.#type = "";
        this.#data = [];
        this.#size = 0;
        this.#tooLong = false;
        if (!empty)
            this.#onEvent(event);
    }
}
/** The order of two ids: below, at or above 0. undefined: they are of different epochs, and nobody here knows. */
function orderOf(one, other) {
    if (one === other)
        return 0;
    const [, epoch, position] = /^(.+)-(\d+)$/.exec(one) ?? [];
    const [, another, than] = /^(.+)-(\d+)$/.exec(other ?? "") ?? [];
    return epoch !== undefined && epoch === another ? Number(position) - Number(than) : undefined;
}
/** What JSON says; what is none, and null, says nothing. */
function parsedOr(text, otherwise) {
    try {
        return JSON.parse(text) ?? otherwise;
    }
    catch {
        return otherwise;
    }
}
const isOurs = (event) => event.type[0] === "$";
const TICK = 1000; // ms: how often clocks are looked at, as a machine that slept runs its timers late
const SILENCE = 45_000; // ms without a byte, until the stream's own heartbeats are known
const ANSWER = 20_000; // ms until an attempt has its answer
const LONGEST_SILENCE = 300_000; // where there seem to be none
const LONGEST_WAIT = 86_400_000; // ms that a server may ask for
const STABLE = 10_000; // ms open, after which a drop is the first one again
const AGAIN = new DOMException("again", "AbortError"); // at once, and nobody need be told
const STALLED = new DOMException("nothing came, not even a heartbeat", "TimeoutError");
/** An id as a header says it: in UTF-8, as EventSource does; `Headers` takes a character for each byte. */
const inUtf8 = (id) => Array.from(new TextEncoder().encode(id), (byte) => String.fromCharCode(byte)).join("");
const isOffline = () => platform.navigator?.onLine === false;
/** What a promise says, unless `signal` aborts first. */
async function unlessAborted(signal, promise) {
    let end = () => { };
    const aborted = new Promise((_, reject) => {
        end = listenTo(signal, "abort", () => reject(signal.reason));
    });
    try {
        signal.throwIfAborted();
        return await Promise.race([promise, aborted]);
    }
    finally {
        end();
    }
}
/** Listen to a target, if there is one; returns what ends that. */
function listenTo(target, type, handler) {
    target?.addEventListener?.(type, handler);
    return () => target?.removeEventListener?.(type, handler);
}
/** Milliseconds that `Retry-After` asks for (RFC 9110, section 10.2.3). */
function retryAfter(response) {
    const said = response.headers.get("Retry-After") ?? "";
    const wait = /^\d+$/.test(said) ? 1000 * Number(said) : Date.parse(said) - Date.now();
    return wait > 0 ? Math.min(wait, LONGEST_WAIT) : 0;
}
/** What a refusal says of itself: problem+json (RFC 9457), of which the first piece is enough. */
async function detailOf(response) {
    try {
        const { value } = await response.body.getReader().read();
        return parsedOr(new TextDecoder().decode(value), {}).detail;
    }
    catch {
        return undefined;
    }
}
/** Who a token lets in, whenever it was signed: of a JWT its claims, but for those of the signing. */
function holderOf(token) {
    try {
        const [, claims] = token.split(".");
        const { exp, iat, nbf, jti, ...holder } = JSON.parse(atob(claims.replace(/-/g, "+").replace(/_/g, "/")));
        return holder;
    }
    catch {
        return token;
    }
}
/** As whom an attempt asks, as text. */
const whoOf = (headers, token) => {
    const names = [];
    new Headers(headers).forEach((value, name) => names.push([name, value]));
    return JSON.stringify([names, holderOf(token)]);
};
/** One stream, until `stop`. */
class LiveStream {
    lastEventId;
    state = { name: "connecting" };
    #options;
    #to;
    #stopped = false;
    #attempt = new AbortController();
    #wake; // ends the wait
    #until = null; // of the wait, ms since 1970; null: as long as it takes
    #failures = 0;
    #retry;
    #token; // sent with the attempt
    #ahead; // fetched before it is needed
    #again = false; // the last answer was 401
    #heard = null; // when something came last; null: nobody reads
    #looked = 0;
    #beat = 0; // the longest silence before a heartbeat, ms
    #beats = 0; // heartbeats that were alone
    #stalls = 0;
    #headed = false;
    #ends;
    constructor(options, lastEventId, to) {
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
    stop() {
        this.#stopped = true;
        this.#attempt.abort(AGAIN);
        this.#wake?.();
        for (const end of this.#ends)
            end();
    }
    /** Go on behind that id: at once, or when the wait is over. */
    restart(lastEventId = this.lastEventId) {
        this.lastEventId = lastEventId;
        this.#attempt.abort(AGAIN);
    }
    /** Somebody is there: wait no longer. */
    nudge() {
        if (!isOffline())
            this.#wake?.();
        this.look();
    }
    async #run() {
        while (!this.#stopped) {
            while (isOffline() && !this.#stopped)
                await this.#wait(null, "offline");
            if (this.#stopped)
                return;
            if (this.state.name !== "open")
                this.#tell({ name: "connecting" });
            const attempt = (this.#attempt = new AbortController());
            const began = (this.#heard = this.#looked = Date.now());
            const ended = { why: "the stream ended", wait: 0 };
            try {
                await this.#listen(attempt.signal, ended);
            }
            catch (error) {
                if (this.#stopped)
                    return;
                const reason = attempt.signal.aborted ? attempt.signal.reason : error; // eslint-disable-line
                if (reason === AGAIN)
                    continue;
                if (reason instanceof StreamError && reason.final) {
                    this.stop();
                    return this.#to.state((this.state = { name: "closed", why: reason.message, error: reason }));
                }
                ended.why = String(reason?.message ?? reason);
                // Of a machine that slept, mostly: at once, and no error if that helps.
                if (reason === STALLED && this.#headed && !this.#failures++)
                    continue;
                this.#to.error(reason instanceof StreamError ? reason : new StreamError(ended.why, { cause: reason }));
            }
            finally {
                attempt.abort(AGAIN); // a body that nobody reads to its end would keep its connection
            }
            if (this.#hasStopped())
                return;
            if (ended.closed) {
                this.stop();
                return this.#to.state((this.state = { name: "closed", why: "the server has nothing more" }));
            }
            const lasted = this.#headed ? Date.now() - began : 0;
            if (lasted > (ended.planned ? TICK : STABLE))
                this.#failures = 0;
            if (ended.atOnce)
                continue;
            const { minDelay, maxDelay } = this.#options;
            const jitter = Math.random() * Math.min(maxDelay, minDelay * (2 ** this.#failures - 1));
            this.#failures++;
            await this.#wait(Math.max(ended.wait, (this.#retry ?? minDelay) + jitter), ended.why);
        }
    }
    /** Meanwhile: a compiler would take it for what it was before. */
    #hasStopped() {
        return this.#stopped;
    }
    #tell(state) {
        if (state.name === "open" && this.state.name === "open")
            return;
        this.#to.state((this.state = state));
    }
    async #wait(ms, why) {
        if (isOffline())
            [ms, why] = [null, "offline"];
        this.#until = ms === null ? null : Date.now() + ms;
        this.#tell({ name: "waiting", until: this.#until, attempt: this.#failures, why });
        let timer;
        await new Promise((wake) => {
            this.#wake = wake;
            if (ms !== null)
                timer = setTimeout(wake, Math.min(ms, 2 ** 31 - 1));
        });
        clearTimeout(timer);
        this.#wake = undefined;
    }
    /** One attempt. */
    async #listen(signal, ended) {
        const options = this.#options;
        this.#headed = false;
        const headers = new Headers(await unlessAborted(signal, options.headersNow()));
        const ahead = this.#ahead;
        this.#ahead = undefined;
        this.#token = ahead ?? (await unlessAborted(signal, options.tokenNow({ signal, again: this.#again })));
        this.#to.asks(whoOf(headers, this.#token));
        signal.throwIfAborted(); // by who was told
        headers.set("Accept", "text/event-stream");
        if (this.#token)
            headers.set("Authorization", `Bearer ${this.#token}`);
        const asked = this.lastEventId;
        if (asked)
            headers.set("Last-Event-ID", inUtf8(asked));
        const asking = { headers, credentials: options.credentials, cache: "no-store", signal };
        const response = await options.fetch(options.url, asking);
        if (response.status === 204)
            return void (ended.closed = true);
        if (response.status !== 200)
            return this.#refused(response, ended);
        const type = response.headers.get("Content-Type") ?? "nothing";
        if (!/^text\/event-stream *(;|$)/i.test(type) || !response.body) {
            throw new StreamError(`the answer is no event stream but ${type}`, { final: true, status: 200 });
        }
        this.#again = false;
        this.#headed = true;
        let enveloped = false;
        let frames = [];
        let leftOut = [];
        let last = asked;
        const parser = new EventStreamParser((event) => {
            const own = event.id !== last;
            last = event.id;
            if (event.type === "$connected") {
                const said = parsedOr(event.data, {});
                enveloped = said.envelope === "json";
                leftOut = said.left_out ?? [];
            }
            else if (event.type === "$closing") {
                ended.reason = String(parsedOr(event.data, {}).reason);
                ended.why = `the server closes: ${ended.reason}`;
                ended.planned = ended.reason === "expired" || ended.reason === "age";
            }
            else if (event.type === "$expiring")
                void this.#renew(signal);
            else if (enveloped && (!isOurs(event) || event.type === "$forgotten")) { // that one is its channel's
                const { channel, channels = [channel], time, data } = parsedOr(event.data, {});
                Object.assign(event, { channel, channels, time, data });
            }
            frames.push({ event, own });
        }, { lastEventId: asked, most: options.maxEventSize });
        const reader = response.body.getReader();
        listenTo(signal, "abort", () => reader.cancel().catch(() => { }));
        for (;;) {
            const room = this.#to.room();
            if (room) {
                this.#heard = null;
                await unlessAborted(signal, room);
                this.#heard = Date.now();
            }
            const { done, value } = await reader.read();
            signal.throwIfAborted();
            if (done)
                return;
            const now = Date.now();
            const silence = now - (this.#heard ?? now);
            this.#heard = now;
            parser.feed(value);
            this.lastEventId = parser.lastEventId;
            if (parser.retry !== undefined)
                this.#retry = Math.min(parser.retry, LONGEST_WAIT);
            if (!frames.length && value.length < 3) {
                this.#beat = Math.max(this.#beat, Math.min(silence, SILENCE));
                this.#beats++;
            }
            if (!ended.reason)
                this.#tell({ name: "open", leftOut });
            const came = frames;
            frames = [];
            if (came.length)
                this.#to.frames(came, asked);
            signal.throwIfAborted(); // by who was told
        }
    }
    async #refused(response, ended) {
        const { status } = response;
        const detail = await detailOf(response);
        const hint = status === 404 ? " (beside an app an edge is under its path: /edge/sse)" : "";
        const message = `the server answers ${status}${detail ? `: ${detail}` : ""}${hint}`;
        const again = status === 401 && this.#options.getToken !== undefined && !this.#again;
        const final = status < 500 && ![408, 425, 429].includes(status) && !again;
        this.#again = status === 401;
        if (again)
            return void (ended.atOnce = true);
        ended.wait = retryAfter(response);
        throw new StreamError(message, { final, status, ...(detail === undefined ? {} : { detail }) });
    }
    /** The credential ends soon: have the next one, and go on with it. */
    async #renew(signal) {
        if (!this.#options.getToken)
            return;
        try {
            const token = await this.#options.tokenNow({ signal, again: false });
            if (!token || token === this.#token || this.#stopped)
                return;
            this.#ahead = token;
            if (!signal.aborted)
                this.restart();
        }
        catch {
            // it is asked for again when the stream has ended
        }
    }
    /** Silence that a stream can't have unless something is wrong, ms; 0: that is not known. Heartbeats come after half of
     * their interval at the earliest. A few of them: the first were perhaps read late, by a page that was busy. */
    get #interval() {
        return this.#beats > 2 ? 2 * this.#beat : 0;
    }
    get #patience() {
        const learnt = this.#interval ? 1.5 * this.#interval + TICK : Math.min(LONGEST_SILENCE, SILENCE * 2 ** this.#stalls);
        return this.#options.heartbeatTimeout ?? learnt;
    }
    /** See whether the stream lives, and whether a wait is over. */
    look() {
        const now = Date.now();
        const interval = this.#interval;
        if (this.#wake) {
            if (this.#until !== null && now >= this.#until)
                this.#wake();
            return;
        }
        if (this.#headed)
            this.#tell({ name: "open", leftOut: [] }); // a stream that has nothing to say yet
        else if (this.state.name === "open" && now - (this.#heard ?? now) > 2 * TICK)
            this.#tell({ name: "connecting" });
        const slept = interval && now - this.#looked > interval + 2 * TICK && this.#heard !== null && this.#heard <= this.#looked;
        this.#looked = now;
        if (this.#heard === null)
            return;
        if (now < this.#heard)
            this.#heard = now; // the clock was set back
        if (now - this.#heard > (this.#headed ? this.#patience : ANSWER) || slept) {
            if (this.#headed && !interval)
                this.#stalls++;
            this.#beat = this.#beats = 0;
            this.#attempt.abort(STALLED);
        }
    }
}
const ASK_LEADER = 5000; // ms without a word from who holds the stream
const NO_ANSWER = 1000; // ms, and up to twice that: then the stream is taken over
const uniqueId = () => Math.random().toString(36).slice(2) + Date.now().toString(36);
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
class TabGroup {
    #id = uniqueId();
    #name;
    #home;
    #channel; // eslint-disable-line
    #queued = new AbortController();
    #release;
    #leads; // my name as the leader
    #number = 0;
    #follows;
    #asked = 0; // when a question was sent that is not answered
    #heard = Date.now();
    #at; // where the leader's stream is
    #stream; // I lead, or am on my own
    #hadHistory = false;
    #behind = false; // something was left out, as nobody takes it
    #closed = false;
    #timer = setInterval(() => this.#tick(), TICK);
    constructor(name, home) {
        this.#name = name;
        this.#home = home;
        this.#channel = new platform.BroadcastChannel(name);
        this.#channel.onmessage = ({ data }) => this.#hear(data);
        void this.#queue({ signal: this.#queued.signal });
        this.#join();
    }
    /** It has another tab's stream, and sends no token of its own. */
    get follows() {
        return this.#follows !== undefined;
    }
    stop() {
        this.#closed = true;
        clearInterval(this.#timer);
        this.#stream?.stop();
        this.#queued.abort();
        this.#release?.();
        this.#channel.close();
    }
    nudge() {
        this.#stream?.nudge();
        this.#post({ nudge: true });
        this.#tick();
    }
    /** The page takes events again. */
    drained() {
        if (!this.#behind)
            return;
        this.#behind = false;
        const here = this.#home.lastEventId;
        if (!this.#leads)
            this.#join();
        else if (this.#stream && !((orderOf(here, this.#stream.lastEventId) ?? -1) >= 0)) {
            this.#stream.restart(here); // never on: others may be behind
        }
    }
    /** Lead when it is my turn. */
    async #queue(how) {
        const queued = this.#queued;
        const lead = () => this.#closed || queued !== this.#queued || this.#lead();
        try {
            await platform.navigator.locks.request(this.#name, how, lead);
        }
        catch (error) { // it was taken from me, or is no longer waited for
            if (error.name !== "AbortError")
                await new Promise((done) => setTimeout(done, TICK));
        }
        if (this.#closed || queued !== this.#queued)
            return;
        this.#stepDown();
        void this.#queue({ signal: queued.signal });
    }
    #steal() {
        this.#queued.abort();
        this.#queued = new AbortController();
        this.#asked = 0;
        void this.#queue({ steal: true });
    }
    #lead() {
        this.#alone();
        this.#leads = uniqueId();
        this.#follows = undefined;
        this.#asked = this.#number = 0;
        this.#behind &&= this.#home.full;
        this.#post({ leads: this.#leads });
        const stream = (this.#stream = this.#home.stream({
            frames: (frames, asked) => {
                const others = frames.filter(({ event }) => !/^\$(expiring|closing)$/.test(event.type));
                this.#say({ at: stream.lastEventId, frames: others, asked });
                this.#take(frames, asked);
            },
            state: (state) => {
                if (state.name !== "closed")
                    this.#say({ state }); // who leads next asks for itself
                this.#home.state(state);
            },
            room: () => undefined,
        }));
        return new Promise((release) => {
            this.#release = release;
        });
    }
    #stepDown() {
        if (!this.#leads)
            return;
        const gone = this.#leads;
        this.#leads = undefined;
        this.#release?.();
        this.#alone();
        this.#post({ gone });
        this.#join();
    }
    /** Until the leader and I can be compared. */
    #onMyOwn() {
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
    #compare() {
        if (this.#leads || !this.#stream || orderOf(this.#home.lastEventId, this.#at) === undefined)
            return;
        this.#alone();
        this.#join();
    }
    #alone() {
        this.#stream?.stop();
        this.#stream = undefined;
    }
    #take(frames, asked) {
        this.#behind ||= this.#home.full;
        if (!this.#behind)
            this.#home.take(frames, asked, true);
    }
    #post(message) {
        if (!this.#closed)
            this.#channel.postMessage(message);
    }
    #say(message) {
        if (this.#leads)
            this.#post({ from: this.#leads, number: ++this.#number, ...message });
    }
    #join() {
        this.#follows = undefined;
        if (this.#leads || this.#behind)
            return;
        this.#asked = Date.now();
        this.#post({ hello: this.#id, at: this.#home.lastEventId });
    }
    #hear(message) {
        const { hello, ping, to, from, number, at, state, frames, asked, leads, gone, nudge } = message;
        if (this.#closed)
            return;
        if (leads)
            this.#leads ? this.#stepDown() : this.#join();
        else if (gone && gone === this.#follows?.from)
            this.#join();
        else if (nudge)
            this.#stream?.nudge();
        else if (hello || ping) {
            if (this.#leads)
                this.#answer(hello, ping, at);
        }
        else if (to === this.#id)
            this.#welcome(message);
        else if (from && at !== undefined) {
            this.#at = at;
            this.#compare();
        }
        if (to || !from || !this.#follows || from !== this.#follows.from)
            return;
        this.#heard = Date.now();
        if (number !== ++this.#follows.number)
            this.#join();
        else if (state)
            this.#home.state(state);
        else if (frames)
            this.#take(frames, asked ?? "");
    }
    #answer(hello, ping, at) {
        const stream = this.#stream;
        const to = hello ?? ping;
        if (!stream || !this.#leads || !to)
            return;
        const mine = { to, from: this.#leads, number: this.#number };
        if (ping) {
            stream.look(); // timers of a hidden tab run once a minute, messages at once
            return this.#post(mine);
        }
        if (at && (orderOf(at, stream.lastEventId) ?? 0) < 0)
            stream.restart(at);
        // Who is new begins where this page is, however far the stream went back for others.
        this.#post({ ...mine, at: at ? stream.lastEventId : this.#home.lastEventId, state: stream.state });
    }
    #welcome({ from = "", number = 0, at = "", state }) {
        this.#asked = 0;
        this.#heard = Date.now();
        if (state === undefined) { // of a ping
            if (from !== this.#follows?.from || number !== this.#follows.number)
                this.#join();
            return;
        }
        if (this.#leads || this.#follows)
            return;
        this.#at = at;
        const here = this.#home.lastEventId;
        if (here ? orderOf(here, at) === undefined : this.#home.wantsHistory && !this.#hadHistory)
            return this.#onMyOwn();
        this.#alone();
        this.#follows = { from, number };
        this.#home.begin(at, state);
    }
    #tick() {
        const now = Date.now();
        if (this.#leads || this.#behind)
            return;
        const told = this.#home.told;
        if (told.name === "waiting" && told.until && now > told.until)
            this.#post({ ping: this.#id });
        if (this.#asked) {
            if (now - this.#asked > NO_ANSWER * (1 + Math.random()))
                this.#steal();
        }
        else if (now - this.#heard > ASK_LEADER) {
            this.#asked = now;
            this.#post({ ping: this.#id });
        }
    }
}
/** Which script this is: by default a stream is of the edge that served it. */
const SCRIPT = import.meta.url;
class PageConnection {
    lastEventId;
    #options;
    #state = { name: "connecting" };
    #closed = false;
    #connected = false; // has been
    #insync = true; // with a stream that began at an id which can't be compared to mine
    #shared; // the group's; null: it is not shared
    #moved = false; // to another group, and has not been of it yet
    #run;
    #begun = 0; // how often, so that who was overtaken notices
    #handlers = new Map();
    #queues = new Set();
    #room;
    #ends;
    constructor(options) {
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
        if (signal?.aborted)
            this.close();
        else
            void this.#begin();
    }
    get state() {
        return this.#state;
    }
    on(type, handler) {
        const handlers = this.#handlers.get(type) ?? new Set();
        this.#handlers.set(type, handlers.add(handler));
        return () => void handlers.delete(handler);
    }
    reconnect() {
        this.#run?.nudge();
    }
    close() {
        this.#told({ name: "closed", why: "by the page" });
    }
    [Symbol.asyncIterator]() {
        const queue = { events: [], wakes: [] };
        this.#queues.add(queue);
        const leave = async () => {
            this.#queues.delete(queue);
            this.#drained();
            return { done: true, value: undefined };
        };
        return {
            next: async () => {
                while (!queue.events.length) {
                    if (this.#state.name === "closed" && this.#state.error)
                        throw this.#state.error;
                    if (this.#closed || !this.#queues.has(queue))
                        return leave();
                    await new Promise((wake) => queue.wakes.push(wake));
                }
                const value = queue.events.shift();
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
    async #begin() {
        if (this.#run || this.#closed)
            return;
        const begun = ++this.#begun;
        while (this.#shared === undefined) {
            try {
                const shared = await this.#options.sharedAs();
                if (this.#isOver(begun))
                    return;
                this.#shared = shared;
            }
            catch (error) { // the token could not be had
                if (this.#isOver(begun))
                    return;
                this.#failed(error);
                const until = Date.now() + this.#options.maxDelay * Math.random();
                this.#told({ name: "waiting", until, attempt: 1, why: String(error?.message ?? error) });
                await new Promise((done) => setTimeout(done, until - Date.now()));
            }
        }
        if (this.#isOver(begun) || this.#run)
            return;
        const told = {
            error: (error) => this.#failed(error),
            asks: (who) => this.#asks(who),
            state: (state) => this.#told(state),
            room: () => (this.#full ? new Promise((room) => { this.#room = room; }) : undefined),
        };
        const take = (frames, asked, shared = false) => this.#take(frames, asked, shared);
        if (this.#shared === null) {
            this.#run = new LiveStream(this.#options, this.lastEventId, { ...told, frames: take });
            return;
        }
        const page = this;
        this.#run = new TabGroup(this.#shared.name, {
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
    #isOver(begun) {
        return begun !== this.#begun || this.#closed;
    }
    /** Nobody's events are for the tabs of another: when the page asks as somebody else it leaves the group, for theirs. Who
     * is another one each time has a stream of its own. */
    #asks(who) {
        const known = this.#shared?.who;
        if (known === undefined)
            return;
        if (known === who)
            return void (this.#moved = false);
        this.#halt();
        this.#shared = this.#moved ? null : undefined;
        this.#moved = true;
        void this.#begin();
    }
    /** Who follows another tab sends no token. So it is seen here whether the page is somebody else's by now. */
    async #isLookedAt() {
        const run = this.#run;
        run?.nudge();
        if (!(run instanceof TabGroup) || !run.follows || this.#shared?.who === undefined)
            return;
        try {
            const now = await this.#options.sharedAs();
            if (run === this.#run && run.follows && now?.who !== undefined)
                this.#asks(now.who);
        }
        catch {
            // it is asked for when this tab leads
        }
    }
    /** The page is put aside, or frozen: another tab is to hold the stream. */
    #suspend() {
        this.#begun++;
        this.#halt();
        if (!this.#closed)
            this.#told({ name: "waiting", until: null, attempt: 0, why: "the page is put aside" });
    }
    #halt() {
        const run = this.#run;
        this.#run = undefined;
        run?.stop();
    }
    #told(state) {
        if (this.#closed)
            return;
        this.#state = state;
        if (state.name === "closed") {
            this.#closed = true;
            this.#halt();
            for (const end of this.#ends ?? [])
                end();
            if (state.error)
                this.#failed(state.error);
            for (const queue of this.#queues)
                for (const wake of queue.wakes.splice(0))
                    wake();
        }
        this.#call(this.#options.onState, state);
    }
    // ---- its events ----
    /** Of a stream that began behind the id `asked`. `shared`: it may be of before what this page has. */
    #take(frames, asked, shared) {
        for (const { event, own } of frames) {
            if (this.#closed)
                return;
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
                if (!this.#insync || (ahead !== undefined && (ahead < 0 || (ahead === 0 && own))))
                    continue;
            }
            this.lastEventId = event.id;
            this.#give(event, here);
        }
    }
    #give(event, after) {
        const options = this.#options;
        const said = isOurs(event) ? parsedOr(event.data, {}) : undefined;
        if (event.tooLong) {
            this.#failed(new StreamError(`an event of more than ${options.maxEventSize} characters was left out`), event);
        }
        else if (event.type === "$gap") {
            const gap = { after: null, until: null, ...said };
            this.#lost(gap.after === after || !after ? gap : { after, until: gap.until }, event);
        }
        else if (event.type === "$expiring")
            this.#call(options.onExpiring, said);
        else if (event.type === "$closing")
            this.#call(options.onClosing, said);
        else if (event.type === "$forgotten")
            this.#call(options.onForgotten, { ...said, id: event.id });
        else
            this.#deliver(event);
    }
    #lost(gap, event) {
        const { onGap, decodeGap } = this.#options;
        this.#call(onGap, gap, event.id, event);
        if (decodeGap)
            this.#call(() => this.#enqueue(decodeGap(gap, event.id)), undefined);
    }
    #deliver(event) {
        let decoded = event;
        try {
            if (this.#options.decode)
                decoded = this.#options.decode(event);
        }
        catch (error) {
            return this.#failed(error, event);
        }
        this.#call(this.#options.onEvent, decoded, event, event);
        for (const handler of this.#handlers.get(event.type) ?? [])
            this.#call(handler, decoded, event, event);
        this.#enqueue(decoded);
    }
    #enqueue(value) {
        for (const queue of this.#queues) {
            queue.events.push(value);
            for (const wake of queue.wakes.splice(0))
                wake();
        }
    }
    /** A handler that throws is told of, and the stream goes on. */
    #call(handler, value, also, event) {
        try {
            handler?.(value, also);
        }
        catch (error) {
            this.#failed(error, event);
        }
    }
    #failed(error, event) {
        const { onError } = this.#options;
        try {
            if (onError)
                return void onError(error, event);
            if (error instanceof StreamError)
                return;
        }
        catch (another) {
            error = another;
        }
        (platform.reportError ?? console.error)(error);
    }
    // ---- its queues ----
    get #full() {
        return [...this.#queues].some(({ events }) => events.length >= this.#options.queueSize);
    }
    #drained() {
        if ([...this.#queues].some(({ events }) => events.length > this.#options.queueSize / 2))
            return;
        this.#room?.();
        this.#room = undefined;
        if (this.#run instanceof TabGroup)
            this.#run.drained();
    }
}
/** The URL of a stream. Without one it is of the edge that served this module. */
function urlOf(source) {
    const given = typeof source === "string" || source instanceof URL ? { url: source } : source;
    const base = platform.document?.baseURI ?? SCRIPT;
    let url;
    try {
        url = new URL(given.url ?? new URL("sse", SCRIPT), base);
    }
    catch {
        throw new TypeError(`url: ${given.url ?? "none"} is no address that a stream can be asked for at; write it whole, with its host`);
    }
    for (const channel of given.channels ?? [])
        url.searchParams.append("channel", channel);
    for (const pattern of given.patterns ?? [])
        url.searchParams.append("pattern", pattern);
    if (given.history)
        url.searchParams.set("history", String(given.history));
    if (given.envelope)
        url.searchParams.set("envelope", "json");
    if (given.allowedOnly)
        url.searchParams.set("allowed", "only");
    return url.href;
}
/** null: it is not shared. */
async function sharedAs(options) {
    const { shareAcrossTabs: share, url, credentials } = options;
    const { navigator, BroadcastChannel, crypto } = platform;
    if (!share || !navigator?.locks || !BroadcastChannel || !crypto?.subtle)
        return null;
    if (await navigator.locks.query().then(() => false, () => true))
        return null; // in a sandbox
    let who;
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
function connect(source, options = {}) {
    const { headers, getToken } = options;
    const all = {
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
export { connect, EventStreamParser, StreamError };
