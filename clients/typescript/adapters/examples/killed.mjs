/** What the examples share: lives that end, with kill -9, between the charge and its record, and the world that counts the charges. */

import { fork, spawn, spawnSync } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";

import { SECRET } from "./effect.mjs";

const { env } = process;

/** Plays the example in this file, without hookonce and with it; it fails where that does not show what it is to show. */
export async function main(file, { life, serve }) {
  if (env.LIFE) return life ? await life(env.WITH === "yes") : serve(env.WITH === "yes", Number(env.PORT));
  const charges = [];
  const world = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    if (request.method === "POST") charges.push({ charge: `ch_${charges.length + 1}`, ...JSON.parse(text) });
    const found = request.method === "POST" ? charges.at(-1) : charges.find(({ key }) => key && request.url.endsWith(`?${key}`));
    response.end(JSON.stringify({ charge: found?.charge ?? null }));
  });
  await new Promise((done) => world.listen(0, "127.0.0.1", done));
  const stop = await hookonce();
  const counted = {};
  try {
    for (const way of ["without", "with"]) {
      charges.length = 0;
      const environment = { ...env, WORLD: `http://127.0.0.1:${world.address().port}`, WITH: way === "with" ? "yes" : "no", RUN: randomUUID() };
      await (life ? twoLives(file, environment) : twoServers(file, environment));
      counted[way] = charges.length;
      console.log(`${way} hookonce: killed after the charge, started again: ${charges.length} charges of 1 wanted`);
    }
  } finally {
    world.close();
    await stop();
  }
  if (counted.without !== 2 || counted.with !== 1) throw new Error("it does not show what it is to show");
}

async function twoLives(file, environment) {
  for (const life of ["1", "2"]) {
    const ended = await new Promise((done) => fork(fileURLToPath(file), { env: { ...environment, LIFE: life } }).once("exit", (code, signal) => done(signal ?? code)));
    if (ended !== (life === "1" ? "SIGKILL" : 0)) throw new Error(`life ${life} ended with ${ended}`);
  }
}

/** A server that is sent an event as hookonce sends it: again, until it says 2xx. */
async function twoServers(file, environment) {
  const event = { id: randomUUID(), body: JSON.stringify({ order: 1 }) };
  const port = await freePort();
  for (const life of ["1", "2"]) {
    const server = fork(fileURLToPath(file), { env: { ...environment, LIFE: life, PORT: String(port) } });
    const ended = new Promise((done) => server.once("exit", (code, signal) => done(signal ?? code)));
    try {
      const answered = await delivered(port, event, ended);
      if (life === "2" && !answered) throw new Error(`the server ended with ${await ended}`);
    } finally {
      server.kill("SIGKILL");
      await ended;
    }
  }
}

async function delivered(port, { id, body }, ended) {
  let isOver = false;
  void ended.then(() => (isOver = true));
  for (const until = Date.now() + 60_000; !isOver; await new Promise((done) => setTimeout(done, 100))) {
    if (Date.now() > until) throw new Error("it was not handled in time");
    const time = String(Math.floor(Date.now() / 1000));
    const signature = createHmac("sha256", Buffer.from(SECRET.slice(6), "base64")).update(`${id}.${time}.${body}`).digest("base64");
    const headers = { "content-type": "application/json", "webhook-id": id, "webhook-timestamp": time, "webhook-signature": `v1,${signature}` };
    const response = await fetch(`http://127.0.0.1:${port}/webhooks`, { method: "POST", headers, body, signal: AbortSignal.timeout(30_000) }).catch(
      () => null,
    );
    if (response?.ok) return true;
    if (response !== null && response.status !== 503) throw new Error(`answered ${response.status}: ${await response.text()}`);
  }
  return false;
}

function freePort() {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** The one at HOOKONCE_URL (with HOOKONCE_TOKEN), or one that is started here. Gives what stops it. */
async function hookonce() {
  if (env.HOOKONCE_URL) return () => {};
  const target = fileURLToPath(new URL("../../../../target", import.meta.url));
  const binary = [env.HOOKONCE_BIN, `${target}/release/hookonce`, `${target}/debug/hookonce`].find((path) => path && existsSync(path));
  if (!binary) throw new Error("no hookonce is found: `cargo build` first, or set HOOKONCE_BIN, or HOOKONCE_URL and HOOKONCE_TOKEN of a running one");
  const folder = mkdtempSync(`${tmpdir()}/hookonce-example-`);
  chmodSync(folder, 0o755); // As root, Postgres runs as another user.
  writeFileSync(`${folder}/hookonce.toml`, '[ingress]\nbind = "127.0.0.1:0"\n[admin]\nbind = "127.0.0.1:0"\ntoken = "example-token"\n');
  const { DATABASE_URL: _, ...environment } = { ...env, HOOKONCE_DATA_DIR: `${folder}/data` };
  const served = spawn(binary, ["serve"], { cwd: folder, env: environment, stdio: "ignore" });
  const ready = spawnSync(binary, ["ready", "--wait", "60s"], { cwd: folder, env: environment, encoding: "utf8" });
  if (ready.status !== 0) throw new Error(ready.stderr);
  env.HOOKONCE_URL = `http://${readFileSync(`${folder}/data/admin.address`, "utf8").trim()}`;
  env.HOOKONCE_TOKEN = "example-token";
  return async () => {
    const ended = new Promise((done) => served.once("exit", done));
    served.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
}
