import type { ParsedEvent } from "./types.js";

/** An event stream, in pieces of any size (WHATWG HTML, section 9.2.6). Of an event longer than `most` characters only its
 * type and id stay, and it is `tooLong`. */
export class EventStreamParser {
  lastEventId: string;
  /** Milliseconds, once the stream has said so. */
  retry: number | undefined;
  #decoder = new TextDecoder(); // drops the byte order mark, and keeps a letter cut in two
  #rest = ""; // of the line that has not ended
  #afterCR = false; // an LF next belongs to it
  #type = "";
  #data: string[] = [];
  #size = 0;
  #tooLong = false;
  #id: string;
  #most: number;
  #onEvent: (event: ParsedEvent) => void;

  constructor(
    onEvent: (event: ParsedEvent) => void,
    { lastEventId = "", most = Infinity }: { lastEventId?: string; most?: number } = {},
  ) {
    this.lastEventId = this.#id = lastEventId;
    this.#most = most;
    this.#onEvent = onEvent;
  }

  feed(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
    if (this.#rest.length > this.#most) {
      if (this.#rest[0] !== ":") this.#drop();
      this.#rest = ":"; // what follows of this line is nothing
    }
  }

  #drop(): void {
    this.#tooLong = true;
    this.#data = [];
    this.#size = 0;
  }

  #line(line: string): void {
    if (!line) return this.#dispatch();
    const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? [];
    if (field === "data") {
      this.#data.push(value);
      if ((this.#size += value.length + 1) > this.#most || this.#tooLong) this.#drop();
    } else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }

  #dispatch(): void {
    const event: ParsedEvent = { type: this.#type || "message", data: this.#data.join("\n"), id: this.#id };
    const empty = !this.#data.length && !this.#tooLong;
    if (this.#tooLong) event.tooLong = true;
    this.lastEventId = this.#id;
    this.#type = "";
    this.#data = [];
    this.#size = 0;
    this.#tooLong = false;
    if (!empty) this.#onEvent(event);
  }
}

/** The order of two ids: below, at or above 0. undefined: they are of different epochs, and nobody here knows. */
export function orderOf(one: string, other: string | undefined): number | undefined {
  if (one === other) return 0;
  const [, epoch, position] = /^(.+)-(\d+)$/.exec(one) ?? [];
  const [, another, than] = /^(.+)-(\d+)$/.exec(other ?? "") ?? [];
  return epoch !== undefined && epoch === another ? Number(position) - Number(than) : undefined;
}

/** What JSON says; what is none, and null, says nothing. */
export function parsedOr(text: string, otherwise: any): any { // eslint-disable-line
  try {
    return JSON.parse(text) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const isOurs = (event: ParsedEvent): boolean => event.type[0] === "$";
