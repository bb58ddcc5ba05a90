import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Served {
  content: Uint8Array;
  etag?: string;
  modified?: string;
}

export interface Asked {
  path: string;
  method: string;
  range?: string;
  headers: IncomingMessage["headers"];
}

/** Answers in the place of the server; false: the server is to answer as it would. */
export type Fault = (asked: Asked, response: ServerResponse, count: number) => boolean;

/** Files over HTTP with ranges and conditions (RFC 9110), which can be told to misbehave. */
export class RangeServer {
  readonly #server: Server;
  readonly #files = new Map<string, Served>();
  readonly asked: Asked[] = [];
  fault: Fault = () => false;
  inFlight = 0;
  mostInFlight = 0;
  /** Sent with every answer, such as leave for pages of other origins. */
  extra: Record<string, string> = {};
  /** Milliseconds before each answer. */
  delay = 0;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<RangeServer> {
    const server = new RangeServer();
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  /** The file's address. */
  serve(content: Uint8Array, facts: Omit<Served, "content"> = { etag: `"${this.#files.size}"` }): string {
    const path = `/${this.#files.size}.bin`;
    this.#files.set(path, { content, ...facts });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}${path}`;
  }
  change(url: string, served: Served): void {
    this.#files.set(new URL(url).pathname, served);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { url = "", method = "", headers } = request;
    const { range } = headers;
    const asked: Asked = { path: url, method, ...(range !== undefined && { range }), headers };
    this.asked.push(asked);
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    response.once("close", () => this.inFlight--);
    for (const [name, value] of Object.entries(this.extra)) response.setHeader(name, value);
    if (this.delay > 0) await new Promise((resolve) => setTimeout(resolve, this.delay));
    if (this.fault(asked, response, this.asked.length)) return;
    const file = this.#files.get(url);
    if (!file) return void response.writeHead(404).end();
    const { content, etag, modified } = file;
    const facts = { ...(etag && { etag }), ...(modified && { "last-modified": modified }) };
    const failed =
      (headers["if-match"] !== undefined && headers["if-match"] !== etag) ||
      (headers["if-unmodified-since"] !== undefined &&
        Date.parse(headers["if-unmodified-since"]) < Date.parse(modified ?? ""));
    if (failed) return void response.writeHead(412, facts).end();
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
    if (from === undefined) {
      response.writeHead(200, { ...facts, "content-length": content.length }).end(method === "HEAD" ? "" : content);
      return;
    }
    if (Number(from) >= content.length) {
      return void response.writeHead(416, { ...facts, "content-range": `bytes */${content.length}` }).end();
    }
    const end = Math.min(Number(to) + 1, content.length);
    const part = content.subarray(Number(from), end);
    response.writeHead(206, {
      ...facts,
      "content-length": part.length,
      "content-range": `bytes ${from}-${end - 1}/${content.length}`,
    });
    response.end(part);
  }
}
