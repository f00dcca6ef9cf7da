/** Real servers over temporary folders, and a repository to work on. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test as base } from "@playwright/test";

/** How long a start may take, in milliseconds: a first one makes the database. */
const START_WITHIN = 60_000;

/** Who the server is when it was started as root. */
const SERVER_UID = 0x3fff0001;

export interface Server {
  url: string;
  key: string;
  repository: string;
}

/** A server for several people, which nobody has set up yet. */
export interface Team extends Server {
  /** The link that it printed: whoever opens it first becomes its owner. */
  setup: string;
}

export const test = base.extend<object, { server: Server; team: Team }>({
  server: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads what a fixture needs from it
    async ({}, use) => {
      const started = await launch("127.0.0.1:0", "");
      await use(started.server);
      await started.end();
    },
    { scope: "worker", timeout: START_WITHIN + 20_000 },
  ],
  team: [
    // biome-ignore lint/correctness/noEmptyPattern: as above
    async ({}, use) => {
      // Passkeys are for a name; the port is part of the address that they are made at.
      const port = await freePort();
      const settings = `[server]\nurl = "http://localhost:${port}"\n[sign_in]\nsign_up = "open"\n`;
      const started = await launch(`127.0.0.1:${port}`, settings);
      await use({ ...started.server, url: `http://localhost:${port}`, setup: started.link });
      await started.end();
    },
    { scope: "worker", timeout: START_WITHIN + 20_000 },
  ],
});

async function launch(listen: string, settings: string) {
  const folder = mkdtempSync(join(tmpdir(), "boatyard-e2e-"));
  // A server that was started as root gives root up, and reads the repository as somebody else.
  chmodSync(folder, 0o755);
  const repository = makeRepository(folder);
  const { child, url, link, key } = await start(folder, listen, settings);
  const end = async () => {
    await removeWorkspaces(url, key);
    await stop(child);
    rmSync(folder, { recursive: true, force: true });
  };
  return { server: { url, key, repository }, link, end };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

function makeRepository(folder: string): string {
  const path = join(folder, "roots", "garden");
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "README.md"), "# Garden\n\nA small repository.\n");
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=E2E", "-c", "user.email=e2e@localhost", ...args], {
      cwd: path,
      stdio: "pipe",
    });
  git("init", "-q", "-b", "main");
  git("add", ".");
  git("commit", "-qm", "Begin");
  execFileSync("chmod", ["-R", "a+rX", path]);
  // Git refuses to read somebody else's repository.
  if (process.getuid?.() === 0) execFileSync("chown", ["-R", `${SERVER_UID}:${SERVER_UID}`, path]);
  return path;
}

async function start(
  folder: string,
  listen: string,
  settings: string,
): Promise<{ child: ChildProcess; url: string; link: string; key: string }> {
  const binary = process.env.BOATYARD_BIN ?? join(process.cwd(), "../target/debug/boatyard");
  const data = join(folder, "data");
  const config = join(folder, "boatyard.toml");
  const roots = `[repositories]\nroots = [${JSON.stringify(join(folder, "roots"))}]\n`;
  writeFileSync(config, roots + settings);
  const child = spawn(binary, ["up", "--config", config, "--data", data, "--listen", listen], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  let said = "";
  const printed = await new Promise<{ url: string; link: string }>((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`no link in time:\n${said}`)), START_WITHIN);
    const hear = (piece: Buffer) => {
      said += piece.toString();
      // Whole only with what comes after it.
      const link = /(https?:\/\/[^/\s]+)\/(?:setup)?\?code=\S+(?=\s)/.exec(said);
      if (link?.[1]) {
        clearTimeout(deadline);
        resolve({ url: link[1], link: link[0] });
      }
    };
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    child.once("exit", (code) => {
      clearTimeout(deadline);
      reject(new Error(`boatyard up ended with ${code}:\n${said}`));
    });
  });
  const key = /^key = "(by_[^"]+)"/m.exec(readFileSync(join(data, "client.toml"), "utf8"))?.[1];
  if (!key) throw new Error("client.toml names no key");
  return { child, ...printed, key };
}

/** A fresh link that signs in once. */
export async function link(server: Server): Promise<string> {
  return ((await call(server, "POST", "/api/auth/links")) as { url: string }).url;
}

/** Asks the API as the one who started the server. */
export async function call(
  server: Server,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  const answer = await fetch(server.url + path, {
    method,
    headers: { Authorization: `Bearer ${server.key}`, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

/** Workspaces outlive their server: that is what they are for, and not wanted here. */
async function removeWorkspaces(url: string, key: string): Promise<void> {
  const headers = { Authorization: `Bearer ${key}` };
  const list = await fetch(`${url}/api/workspaces?limit=100`, { headers });
  const { items } = (await list.json()) as { items: { id: string }[] };
  for (const { id } of items) {
    await fetch(`${url}/api/workspaces/${id}`, { method: "DELETE", headers });
  }
}

/** Ends the server in order, and waits until it is gone. */
function stop(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const late = setTimeout(() => child.kill("SIGKILL"), 15_000);
    child.once("exit", () => {
      clearTimeout(late);
      resolve();
    });
    child.kill("SIGTERM");
  });
}
