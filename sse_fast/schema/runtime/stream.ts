// ---- what the streams above have in common -----------------------------------------------------------------------------

/** In the place of events that are gone, among those of an async iterator. */
export interface GapEvent {
  type: "$gap";
  data: Gap;
  id: string;
}

/** Those of the browser client, and where the server is. */
export interface ListenOptions extends Omit<StreamOptions<unknown>, "decode" | "decodeGap" | "onEvent" | "onGap" | "onError"> {
  /** Where the server's /sse is: "https://events.example.org", "/edge". By default the origin of the page. */
  url?: string;
  /** A route of an app that answers with this stream, in place of that: "/items/7/comments/stream". */
  route?: string | URL;
  /** Without `lastEventId`: begin with so many kept events. */
  history?: number;
  /** An event of a type that this file does not know: of a newer schema. */
  onUnknown?: (event: StreamEvent) => void;
  /** An attempt that failed, an event that is no JSON, what a handler or `getToken` threw (`cause`): it goes on, unless the
   * error is `final`. An iterator throws that one. Without this handler they are written to the console. */
  onError?: (error: StreamError) => void;
}

export interface Handlers<Event> extends ListenOptions {
  onEvent: (event: Event) => void;
  /** Events are gone: fetch what you show anew. Without this handler it is an error. */
  onGap?: (gap: Gap, id: string) => void;
}

export interface Subscription {
  close(): void;
  /** Wait no longer. */
  reconnect(): void;
  readonly state: StreamState;
  /** Settles when the stream has ended, by `close`, the server's word (204) or an error that is final. */
  readonly closed: Promise<void>;
  /** Of the newest event: to be kept for `lastEventId`. */
  readonly lastEventId: string;
}

type Told<Event> = Event | GapEvent | undefined; // undefined: an event that is not known

function listen<Event>(
  channel: string,
  types: readonly string[],
  { url = "", route, history, onUnknown, onError, ...options }: ListenOptions,
  handlers: Pick<StreamOptions<Told<Event>>, "onEvent" | "onGap" | "onState">,
): Connection<Told<Event>> {
  const source = route === undefined ? { url: `${url.replace(/\/+$/, "")}/sse`, channels: [channel] } : { url: route };
  return connect<Told<Event>>(history === undefined ? source : { ...source, history }, {
    ...options,
    ...handlers,
    onError: (error) => (onError ?? console.error)(streamErrorOf(error)),
    decodeGap: (data, id) => ({ type: "$gap", data, id }),
    decode: (raw) => {
      if (!types.includes(raw.type)) {
        onUnknown?.(raw);
        return undefined;
      }
      return { type: raw.type, data: dataOf(raw), id: raw.id } as Event;
    },
  });
}

function streamErrorOf(error: unknown): StreamError {
  return error instanceof StreamError ? error : new StreamError(error instanceof Error ? error.message : String(error), { cause: error });
}

function dataOf({ type, data, id }: StreamEvent): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new StreamError(`the data of the event ${type} ${id} is not JSON`);
  }
}

function subscribe<Event>(channel: string, types: readonly string[], { onEvent, onGap, ...options }: Handlers<Event>): Subscription {
  let end = (): void => {};
  const closed = new Promise<void>((done) => (end = done));
  const connection = listen<Event>(channel, types, options, {
    onEvent: (event) => event && onEvent(event as Event),
    onGap: (gap, id) => {
      if (!onGap) throw new StreamError(`events are gone, between ${gap.after} and ${gap.until}`);
      onGap(gap, id);
    },
    onState: (state) => {
      if (state.name === "closed") end();
      options.onState?.(state);
    },
  });
  return {
    close: () => connection.close(),
    reconnect: () => connection.reconnect(),
    get state() {
      return connection.state;
    },
    closed,
    get lastEventId() {
      return connection.lastEventId;
    },
  };
}

async function* iterate<Event>(
  channel: string,
  types: readonly string[],
  options: ListenOptions,
): AsyncGenerator<Event | GapEvent, void, undefined> {
  const { onError = console.error } = options;
  const told = { ...options, onError: (error: StreamError): void => (error.final ? undefined : onError(error)) };
  const connection = listen<Event>(channel, types, told, {});
  try {
    for await (const event of connection) if (event) yield event;
  } finally {
    connection.close();
  }
}

/** A parameter as the part of a channel's name that it is. */
export function channelPart(name: string, value: string | number | boolean): string {
  const text = String(value);
  if (text === "" || text.includes(":")) throw new TypeError(`${name} is a part of a channel's name: some text without ":", not ${JSON.stringify(text)}`);
  return text;
}
