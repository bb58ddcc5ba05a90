import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";

/** Debian's Chromium, or what CHROMIUM names. */
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

const TYPES: Record<string, string> = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".html": "text/html",
  ".map": "application/json",
};
const PAGE = '<!doctype html><meta charset=utf-8><title>paravane</title><link rel=icon href="data:,">';

/** A browser with an empty page, served from a plain file server over `root`: no bundler, no import map. */
export class BrowserRig {
  readonly #server: Server;
  readonly #browser: Browser;
  readonly page: Page;
  /** Everything the page asked for, and everything it complained of. */
  readonly requests: string[];
  readonly errors: string[];

  private constructor(server: Server, browser: Browser, page: Page, requests: string[], errors: string[]) {
    this.#server = server;
    this.#browser = browser;
    this.page = page;
    this.requests = requests;
    this.errors = errors;
  }

  static async open(root: string): Promise<BrowserRig> {
    const server = createServer((request, response) => {
      const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname));
      const file = join(root, path);
      if (path === "/") response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
      else if (!existsSync(file) || !statSync(file).isFile()) response.writeHead(404).end();
      else {
        response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
        createReadStream(file).pipe(response);
      }
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    const page = await browser.newPage();
    const requests: string[] = [];
    const errors: string[] = [];
    page.on("request", (request) => requests.push(new URL(request.url()).pathname));
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") errors.push(message.text());
    });
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    return new BrowserRig(server, browser, page, requests, errors);
  }

  async close(): Promise<void> {
    await this.#browser.close();
    this.#server.close();
  }
}
