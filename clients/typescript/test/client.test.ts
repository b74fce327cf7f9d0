/** The cases that all clients share, then what they don't reach, against one hookonce. */

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import {
  type Context,
  Handler,
  HookonceError,
  inputHash,
  KeyLeased,
  Ledger,
  LeaseLost,
  NotExecuted,
  type Outcome,
  Refused,
  type RelayedEvent,
  type Run,
  StepFailed,
  StepRunning,
  Unavailable,
  verify,
} from "../src/index.js";
import { CLIENTS, SECRET, Service, TOKEN, until } from "./service.js";

// The operations of conformance.json, which README.md there explains.
type Operation = Record<string, any>;
type Seen = Record<string, any>;

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

class Raised extends Error {}

/** Does the operations of one case. */
class Player {
  readonly name = `typescript-${randomUUID()}`;
  readonly ledger: Ledger;
  readonly run: Run;
  private faults: string[] = [];
  private readonly named = new Map<string, any>();

  constructor() {
    this.ledger = new Ledger({ url: service.url, token: TOKEN, fetch: (url, init) => this.faulty(url, init) });
    this.run = this.ledger.run(this.name);
  }

  private async faulty(url: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> {
    const fault = this.faults.shift();
    if (fault === "refuse") throw new TypeError("refused");
    if (fault !== undefined && fault !== "lose") return new Response("", { status: Number(fault), headers: { "retry-after": "0" } });
    const response = await fetch(url, init);
    if (fault === undefined) return response;
    await response.text();
    throw new TypeError("the answer is lost");
  }

  async play(operation: Operation): Promise<void> {
    const kind = Object.keys(operation)[0]!;
    const expected: Seen = operation.expect ?? {};
    this.faults = [...(operation.faults ?? [])];
    const seen: Seen = { executed: 0 };
    try {
      await this.perform(kind, operation, seen);
    } catch (error) {
      if (!(error instanceof HookonceError || error instanceof Raised)) throw error;
      Object.assign(seen, { error: error.constructor.name, of: (error as StepFailed).error });
      for (const name of ["fence", "reason"]) if (name in error) seen[name] = (error as any)[name];
    }
    seen.faults_left = this.faults.length;
    const what = JSON.stringify({ operation, seen });
    if (!("error" in expected)) assert.ok(!("error" in seen), what);
    for (const [name, value] of Object.entries(expected)) {
      if (name === "effect_key_of" || name === "asked_of") {
        assert.equal(seen[name.slice(0, -3)], this.named.get(value).effectKey, what);
      } else {
        assert.deepEqual(seen[name], value, what);
      }
    }
  }

  private async perform(kind: string, operation: Operation, seen: Seen): Promise<void> {
    const subject = operation[kind];
    const claimed = this.named.get(subject);
    switch (kind) {
      case "claim": {
        const got = await this.run.claim(subject, options(operation));
        if ("status" in got) Object.assign(seen, got);
        else Object.assign(seen, { fence: got.fence, attempt: got.attempt, effect_key: got.effectKey });
        this.named.set(operation.as ?? subject, got);
        return;
      }
      case "heartbeat":
        return this.run.heartbeat(claimed, operation.lease_ms);
      case "complete":
        return this.run.complete(claimed, operation.result);
      case "fail":
        return this.run.fail(claimed, operation.error);
      case "release":
        return this.run.release(claimed);
      case "resolve":
        return this.run.resolve(subject, operation.fence, outcomeOf(operation.outcome)!);
      case "resume": {
        const found = [...(await this.run.resume())].map(([name, { status, result, fence }]) => [name, { status, result, fence }]);
        return assert.deepEqual(Object.fromEntries(found), subject);
      }
      case "execute": {
        const reconcile = (lost: { effectKey: string }) => {
          seen.asked = lost.effectKey;
          return outcomeOf(operation.reconcile);
        };
        const terms = { ...options(operation), ...(operation.reconcile && { reconcile }) };
        seen.result = await this.run.execute(subject, this.work(operation, seen), terms);
        return;
      }
      case "start":
        this.named.set(subject, this.play(operation.do));
        return;
      case "join":
        return claimed;
      case "hash":
        seen.hash = await inputHash(subject);
        return;
      default:
        return this.performApart(kind, operation, seen);
    }
  }

  /** What has no step of the run. */
  private async performApart(kind: string, operation: Operation, seen: Seen): Promise<void> {
    const subject = operation[kind];
    switch (kind) {
      case "dedup": {
        const window: string = operation.window;
        const leaseMs: number = operation.lease_ms;
        if (!("lease_ms" in operation)) {
          seen.first = await this.ledger.dedup(this.name, subject, { window });
          return;
        }
        await until(async () => {
          try {
            const leased = await this.ledger.dedup(this.name, subject, { window, leaseMs });
            seen.first = leased.first;
            this.named.set(operation.as ?? subject, leased);
            return true;
          } catch (error) {
            if (operation.until_free && error instanceof KeyLeased) return false;
            throw error;
          }
        });
        return;
      }
      case "dedup_done":
        return this.named.get(subject).done();
      case "verify": {
        const event = await verify(subject.headers, subject.body, operation.secrets, { now: operation.now });
        const { id, source, key, type, attempt, fence, replay } = event;
        seen.event = { id, source, key, type, attempt, fence, replay, json: event.json() };
        return;
      }
      case "handle": {
        const handler = new Handler(this.ledger, { secrets: operation.secrets, name: this.name, now: () => operation.now });
        const answer = await handler.handle(subject.headers, subject.body, this.work(operation, seen));
        seen.status = answer.status;
        const names = Object.keys(operation.expect.headers ?? {});
        seen.headers = Object.fromEntries(names.map((name) => [name, answer.headers[name]]));
        return;
      }
      default:
        throw new Error(`no such operation: ${kind}`);
    }
  }

  private work(operation: Operation, seen: Seen): (context: Context) => Promise<unknown> {
    const { body } = operation;
    return async (context) => {
      seen.executed++;
      Object.assign(seen, { fence: context.fence, attempt: context.attempt, effect_key: context.effectKey });
      this.named.set(operation.as ?? "", context);
      if ("beats" in body) await until(() => context.heartbeats >= body.beats);
      if ("overtaken" in body) await overtake(this.run, context);
      if ("until_lost" in body) await until(() => context.signal.aborted);
      this.faults = [...(body.faults ?? this.faults)];
      if ("fail" in body) throw new StepFailed(body.fail);
      if ("not_executed" in body) throw new NotExecuted(body.not_executed);
      if ("raise" in body) throw new Raised(body.raise);
      return body.return;
    };
  }
}

/** Lets the lease end and another claim the step. A beat may come between the two. */
async function overtake(run: Run, { step, fence, attempt, effectKey }: Context): Promise<void> {
  await until(async () => {
    await run.heartbeat({ step, fence, attempt, effectKey, claimedAt: 0 }, 1);
    try {
      return "fence" in (await run.claim(step, { onLost: "retry" }));
    } catch (error) {
      if (error instanceof StepRunning) return false;
      throw error;
    }
  });
}

function options(operation: Operation) {
  const { lease_ms: leaseMs = 30_000, on_lost: onLost = "hold", wait_ms: waitMs = 0, input } = operation;
  return { leaseMs, onLost, waitMs, ...(input !== undefined && { input }) };
}

function outcomeOf(said: Operation): Outcome | null {
  if ("done" in said) return { outcome: "done", result: said.done, evidence: said.evidence };
  if ("failed" in said) return { outcome: "failed", error: said.failed, evidence: said.evidence };
  return "not_executed" in said ? { outcome: "not-executed", evidence: said.not_executed } : null;
}

const { cases } = JSON.parse(readFileSync(join(CLIENTS, "conformance.json"), "utf8"));
for (const { name, do: operations } of cases) {
  test(name, async () => {
    const player = new Player();
    for (const operation of operations) await player.play(operation);
  });
}

test("of 24 callers one executes", async () => {
  const ledger = new Ledger({ url: service.url, token: TOKEN });
  const run = randomUUID();
  const executed: number[] = [];
  const call = (number: number) => ledger.run(run).execute("one", () => (executed.push(number), number));
  const results = await Promise.all(Array.from({ length: 24 }, (_, number) => call(number)));
  assert.equal(executed.length, 1);
  assert.deepEqual(new Set(results), new Set(executed));
});

test("work that lost its lease is told, and its error is that", async () => {
  const run = new Ledger({ url: service.url, token: TOKEN }).run(randomUUID());
  const work = async (context: Context) => {
    context.check();
    await overtake(run, context);
    await new Promise((_, reject) => context.signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  await assert.rejects(run.execute("s", work, { leaseMs: 900, onLost: "retry" }), LeaseLost);
});

test("it gives up after a time, and at once where trying is of no use", async () => {
  const nobody = new Ledger({ url: "http://127.0.0.1:9", token: TOKEN, giveUpMs: 200 });
  await assert.rejects(nobody.run("r").execute("s", () => 1), Unavailable);
  await assert.rejects(new Ledger({ url: service.url, token: "wrong" }).run("r").execute("s", () => 1), Refused);
  await assert.rejects(new Ledger({ url: service.url, token: TOKEN }).run("..").execute("s", () => 1), TypeError);
});

test("what hookonce relays is handled once, at the second attempt, and not again when replayed", async () => {
  const ledger = new Ledger({ url: service.url, token: TOKEN });
  const handler = new Handler(ledger, { secrets: SECRET });
  const seen: [string, string, unknown][] = [];
  const work = async (context: Context, event: RelayedEvent) => {
    seen.push([event.id, context.effectKey, event.json()]);
    if (seen.length === 1) throw new Error("at first it fails");
    assert.deepEqual([event.source, event.type], ["ledger", "node.paid"]);
    return context.run.execute("email", () => "sent");
  };
  const server = createServer(handler.node(work)).listen(service.handlerPort, "127.0.0.1");
  const delivered = (count: number) =>
    until(async () => {
      const rows: { destination: string }[] = JSON.parse(await service.command("deliveries", "list", "--state", "delivered", "--output", "json"));
      return rows.filter((row) => row.destination === "node").length === count;
    });
  try {
    await ledger.run(randomUUID()).execute("pay", (context) => context.emit("node.paid", { order: "ü" }));
    await delivered(1);
    const [id] = seen[0]!;
    assert.deepEqual(seen[1], seen[0]);
    await service.command("replay", id, "--yes");
    await delivered(2);
    assert.equal(seen.length, 2);
    const steps = await ledger.run(`webhook:${id}`).resume();
    assert.deepEqual([...steps.keys()].sort(), ["email", "handle"]);
    const forged = new Request("http://handler/", { method: "POST", headers: { "webhook-id": id }, body: "{}" });
    assert.equal((await handler.fetch(work)(forged)).status, 401);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("a handler for Request and Response accepts, knows a duplicate, and refuses what is forged or stale", async () => {
  const ledger = new Ledger({ url: service.url, token: TOKEN });
  const key = Buffer.from(SECRET.slice("whsec_".length), "base64");
  const id = randomUUID();
  const request = (body: string, signedBody = body, age = 0) => {
    const time = String(Math.floor(Date.now() / 1000) - age);
    const signature = createHmac("sha256", key).update(`${id}.${time}.${signedBody}`).digest("base64");
    const headers = { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": `v1,${signature}` };
    return new Request("http://handler/webhooks", { method: "POST", headers, body });
  };
  let executed = 0;
  const fetchHandler = new Handler(ledger, { secrets: SECRET }).fetch(async (_, event) => {
    executed += 1;
    return event.json();
  });
  const answered = async (given: Request) => {
    const response = await fetchHandler(given);
    return [response.status, response.headers.get("content-type"), await response.json()];
  };
  const [done, refused] = ["done", "refused"].map((status) => ({ status }));
  assert.deepEqual(await answered(request("{}", "{}", 301)), [401, "application/json", refused], "stale");
  assert.deepEqual(await answered(request('{"a":1}', "{}")), [401, "application/json", refused], "forged");
  assert.equal(executed, 0);
  assert.deepEqual(await answered(request("{}")), [200, "application/json", done]);
  assert.deepEqual(await answered(request("{}")), [200, "application/json", done], "a duplicate");
  assert.equal(executed, 1);
});
