/** A real server over a temporary folder, and a repository to work on. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

export const test = base.extend<object, { server: Server }>({
  server: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads what a fixture needs from it
    async ({}, use) => {
      const folder = mkdtempSync(join(tmpdir(), "boatyard-e2e-"));
      // A server that was started as root gives root up, and reads the repository as somebody else.
      chmodSync(folder, 0o755);
      const repository = makeRepository(folder);
      const { child, url, key } = await start(folder);
      await use({ url, key, repository });
      await removeWorkspaces(url, key);
      await end(child);
      rmSync(folder, { recursive: true, force: true });
    },
    { scope: "worker", timeout: START_WITHIN + 20_000 },
  ],
});

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

async function start(folder: string): Promise<{ child: ChildProcess; url: string; key: string }> {
  const binary = process.env.BOATYARD_BIN ?? join(process.cwd(), "../target/debug/boatyard");
  const data = join(folder, "data");
  const config = join(folder, "boatyard.toml");
  writeFileSync(config, `[repositories]\nroots = [${JSON.stringify(join(folder, "roots"))}]\n`);
  const child = spawn(
    binary,
    ["up", "--config", config, "--data", data, "--listen", "127.0.0.1:0"],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } },
  );
  let said = "";
  const printed = await new Promise<string>((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`no link in time:\n${said}`)), START_WITHIN);
    const hear = (piece: Buffer) => {
      said += piece.toString();
      const link = /(https?:\/\/\S+)\/\?code=\S+/.exec(said);
      if (link?.[1]) {
        clearTimeout(deadline);
        resolve(link[1]);
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
  return { child, url: printed, key };
}

/** A fresh link that signs in once. */
export async function link(server: Server): Promise<string> {
  const answer = await fetch(`${server.url}/api/auth/links`, {
    method: "POST",
    headers: { Authorization: `Bearer ${server.key}` },
  });
  return ((await answer.json()) as { url: string }).url;
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
function end(child: ChildProcess): Promise<void> {
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
