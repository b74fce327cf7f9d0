/**
 * A real hookonce for the tests: the one that HOOKONCE_TEST_SERVICE describes (tests/clients.rs), or one of their own with its own Postgres, from
 * the binary at HOOKONCE_BIN or the repository's debug build.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

export const TOKEN = "test-token";
export const SECRET = "whsec_aG9va29uY2UtY29uZm9ybWFuY2Utc2VjcmV0";
/** The folder of all clients: the tests are run in this package's folder, or that of its adapters, or in a copy. */
export const CLIENTS = process.env.HOOKONCE_CLIENTS ?? resolve(existsSync("../conformance.json") ? ".." : "../..");
const run = promisify(execFile);

export class Service {
  private constructor(
    readonly url: string,
    readonly handlerPort: number,
    private readonly binary: string,
    private readonly folder: string,
    private readonly environment: NodeJS.ProcessEnv,
    private readonly process: ChildProcess | null,
  ) {}

  static async start(): Promise<Service> {
    const binary = process.env.HOOKONCE_BIN ?? resolve(CLIENTS, "../target/debug/hookonce");
    if (!existsSync(binary)) throw new Error(`no hookonce at ${binary}: build it, or set HOOKONCE_BIN`);
    if (process.env.HOOKONCE_TEST_SERVICE) {
      const { url, folder, handler_ports: ports } = JSON.parse(process.env.HOOKONCE_TEST_SERVICE);
      const environment = { PATH: process.env.PATH, HOOKONCE_DATA_DIR: join(folder, "data"), HOOKONCE_TOKEN: TOKEN };
      return new Service(url, ports.node, binary, folder, environment, null);
    }
    const folder = await mkdtemp(join(tmpdir(), "hookonce-typescript-"));
    await chmod(folder, 0o755);
    const port = await freePort();
    await writeFile(join(folder, "hookonce.toml"), config(port));
    const environment = { PATH: process.env.PATH, HOOKONCE_DATA_DIR: join(folder, "data"), HOOKONCE_TOKEN: TOKEN };
    const served = spawn(binary, ["serve"], { cwd: folder, env: environment, stdio: "ignore" });
    const service = (url: string) => new Service(url, port, binary, folder, environment, served);
    try {
      await service("").command("ready", "--wait", "60s");
      const address = await readFile(join(folder, "data/admin.address"), "utf8");
      return service(`http://${address.trim()}`);
    } catch (error) {
      await service("").stop();
      throw error;
    }
  }

  async command(...given: string[]): Promise<string> {
    return (await run(this.binary, given, { cwd: this.folder, env: this.environment, timeout: 90_000 })).stdout;
  }

  async stop(): Promise<void> {
    const { process } = this;
    if (process === null) return;
    const ended = new Promise((done) => (process.exitCode === null ? process.once("exit", done) : done(null)));
    process.kill("SIGTERM");
    await ended;
    await rm(this.folder, { recursive: true, force: true });
  }
}

function config(port: number): string {
  return `[ingress]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
token = "${TOKEN}"
[relay]
poll_interval = "20ms"
[destinations.node]
url = "http://127.0.0.1:${port}/webhooks"
signing_secret = "${SECRET}"
retry = { base = "10ms", cap = "100ms" }
[[routes]]
source = "ledger"
types = ["node.*"]
destination = "node"
`;
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

/** Asks until it holds. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error("it did not come to that in time");
    await new Promise((done) => setTimeout(done, 5));
  }
}
