/** What must not happen, however the process, its pool or its callers behave. */

import assert from "node:assert/strict";
import cluster from "node:cluster";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { type Context, KeyLeased, Ledger, type LedgerOptions, LeaseLost, NotExecuted, OutcomeUnknown, StepFailed, StepRunning } from "../src/index.js";
import { Service, TOKEN, until } from "./service.js";

let service: Service;
let ledger: Ledger;
before(async () => {
  service = await Service.start();
  ledger = new Ledger({ url: service.url, token: TOKEN });
});
after(() => service.stop());

const never = () => new Promise<never>(() => {});

test("an answer that names another run, step or claim is none", async () => {
  const others = ["run", "step", "claim_id"].map((name) => (body: any) => ({ ...body, [name]: "another's" }));
  const calls: string[] = [];
  const swapped: typeof fetch = async (url, init) => {
    const response = await fetch(url, init);
    const action = String(url).split("/").at(-1)!;
    calls.push(action);
    const change = calls.filter((call) => call === action).length <= others.length ? others[calls.filter((call) => call === action).length - 1]! : null;
    return change ? new Response(JSON.stringify(change(await response.json())), { status: response.status }) : response;
  };
  const run = new Ledger({ url: service.url, token: TOKEN, fetch: swapped }).run(randomUUID());
  let executed = 0;
  assert.equal(await run.execute("s", () => ++executed), 1);
  assert.deepEqual(calls, ["claim", "claim", "claim", "claim", "complete", "complete", "complete", "complete"]);
  assert.equal(executed, 1);
});

/** As much of a pool as matters: so many at a time, the others in the order in which they come. */
function pooled(connections: number): typeof fetch {
  let free = connections;
  const line: (() => void)[] = [];
  return async (url, init) => {
    if (free === 0) {
      await new Promise<void>((resolve, reject) => {
        line.push(resolve);
        init!.signal!.addEventListener("abort", () => {
          const place = line.indexOf(resolve);
          if (place >= 0) line.splice(place, 1);
          reject(init!.signal!.reason);
        });
      });
    } else free--;
    try {
      const response = await fetch(url, init);
      return new Response(await response.text(), response);
    } finally {
      const next = line.shift();
      if (next) next();
      else free++;
    }
  };
}

const crowds: [string, number, LedgerOptions][] = [
  ["the fetch of Node, which opens a connection for each", 150, {}],
  ["a pool of 10 connections", 40, { fetch: pooled(10) }],
  ["a pool of 6 connections, and 3 that may wait, as in browsers", 40, { fetch: pooled(6), waitersMax: 3 }],
];

test("a crowd of waiters does not cost the holder its lease", { concurrency: crowds.length }, async (together) => {
  const tests = crowds.map(([what, count, options]) =>
    together.test(what, async () => {
      const shared = new Ledger({ url: service.url, token: TOKEN, ...options });
      const name = randomUUID();
      const executed: number[] = [];
      let beats = 0;
      const hold = async (context: Context) => {
        executed.push(context.fence);
        // Longer than the lease lasts without them.
        await until(() => context.heartbeats >= 4 || context.signal.aborted);
        beats = context.heartbeats;
        return "once";
      };
      const call = () => shared.run(name).execute("one", hold, { leaseMs: 9_000, onLost: "retry", waitMs: 60_000 });
      const results = await Promise.all(Array.from({ length: count }, call));
      assert.deepEqual(new Set(results), new Set(["once"]));
      assert.deepEqual([executed, beats >= 4], [[1], true], `${executed.length} executions of 1 wanted`);
    }),
  );
  await Promise.all(tests);
});

test("a caller who gives up while it works leaves the step unknown at once, with why", async () => {
  const run = ledger.run(randomUUID());
  const caller = new AbortController();
  let told: unknown;
  const work = ({ signal }: Context) => {
    signal.addEventListener("abort", () => (told = signal.reason));
    setTimeout(() => caller.abort(new Error("the user left")), 20);
    return never();
  };
  const began = performance.now();
  await assert.rejects(run.execute("s", work, { signal: caller.signal, leaseMs: 60_000 }), /the user left/);
  await assert.rejects(run.execute("s", () => "again", { waitMs: 30_000 }), (error) => {
    assert.ok(error instanceof OutcomeUnknown);
    assert.deepEqual(error.error, { type: "Error", message: "the user left" });
    return true;
  });
  assert.ok(performance.now() - began < 10_000, "nobody waits for the lease of a minute");
  assert.match(String(told), /the user left/);
});

test("under retry the next has the step at once, and work that says how it ended is heard", async () => {
  const run = ledger.run(randomUUID());
  const [first, second, third] = [new AbortController(), new AbortController(), new AbortController()];
  const until = (caller: AbortController, then: () => unknown) => (context: Context) => {
    setTimeout(() => caller.abort(), 10);
    return new Promise((resolve, reject) => {
      context.signal.addEventListener("abort", () => {
        try {
          resolve(then());
        } catch (error) {
          reject(error);
        }
      });
    });
  };
  const terms = { leaseMs: 60_000, onLost: "retry" } as const;
  await assert.rejects(run.execute("s", until(first, never), { ...terms, signal: first.signal }), { name: "AbortError" });
  const notYet = () => {
    throw new NotExecuted("it had not begun");
  };
  await assert.rejects(run.execute("s", until(second, notYet), { ...terms, signal: second.signal, waitMs: 0 }), NotExecuted);
  assert.equal(await run.execute("s", until(third, () => "done all the same"), { ...terms, signal: third.signal, waitMs: 0 }), "done all the same");
  assert.equal(await run.execute("s", () => "again"), "done all the same");
});

test("under hold, work that is deaf to its signal is still heard when it ends", async () => {
  const run = ledger.run(randomUUID());
  const ends: [string, string, () => unknown][] = [
    ["result", "done", () => "late"],
    ["failure", "failed", () => Promise.reject(new StepFailed("late"))],
    ["nothing", "released", () => Promise.reject(new NotExecuted("it had not begun"))],
  ];
  for (const [step, ended, end] of ends) {
    const caller = new AbortController();
    let goOn = () => {};
    const gate = new Promise<void>((resolve) => (goOn = resolve));
    const work = async () => {
      setTimeout(() => caller.abort(), 10);
      await gate;
      return end();
    };
    await assert.rejects(run.execute(step, work, { signal: caller.signal }), { name: "AbortError" });
    await assert.rejects(run.execute(step, () => "twice", { waitMs: 0 }), OutcomeUnknown);
    goOn();
    await until(async () => (await run.resume()).get(step)?.status === ended);
  }
  assert.equal(await run.execute("result", () => "twice"), "late");
});

test("detached work goes to its end, and its result is kept", async () => {
  const run = ledger.run(randomUUID());
  const caller = new AbortController();
  let goOn = () => {};
  const gate = new Promise<void>((resolve) => (goOn = resolve));
  const work = async (context: Context) => {
    setTimeout(() => caller.abort(), 10);
    await gate;
    return context.signal.aborted;
  };
  await assert.rejects(run.execute("s", work, { signal: caller.signal, detach: true }), { name: "AbortError" });
  await assert.rejects(run.execute("s", () => "twice", { waitMs: 0 }), StepRunning);
  goOn();
  assert.equal(await run.execute("s", () => "twice", { waitMs: 20_000 }), false);
});

test("a caller who gives up while it waits leaves nothing behind", async () => {
  const run = ledger.run(randomUUID());
  const held = await run.claim("s", { onLost: "retry" });
  const caller = new AbortController();
  setTimeout(() => caller.abort(), 50);
  const began = performance.now();
  await assert.rejects(run.execute("s", () => "never", { signal: caller.signal, waitMs: 30_000 }), { name: "AbortError" });
  assert.ok(performance.now() - began < 5_000, "at once");
  // What the claim that is under way is granted now is given back.
  await run.release(held as Exclude<typeof held, { status: string }>);
  assert.equal(await run.execute("s", () => "next", { waitMs: 20_000 }), "next");
  await assert.rejects(run.execute("t", () => "never", { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal((await run.resume()).has("t"), false);
});

test("an error of the work's own is evidence for who finds the step unknown", async () => {
  const run = ledger.run(randomUUID());
  await assert.rejects(run.execute("s", () => Promise.reject(Object.assign(new Error("reset by peer"), { code: "ECONNRESET" }))), /reset/);
  let asked: unknown;
  const reconcile = (lost: { error: unknown }) => {
    asked = lost.error;
    return null;
  };
  await assert.rejects(run.execute("s", () => 1, { reconcile }), OutcomeUnknown);
  assert.deepEqual(asked, { type: "Error", code: "ECONNRESET", message: "reset by peer" });
});

test("threads and processes of a cluster have one execution among them", async () => {
  const worker = fileURLToPath(new URL("worker.js", import.meta.url));
  const environment = { ...process.env, HOOKONCE_URL: service.url, HOOKONCE_TOKEN: TOKEN, RUN: randomUUID() };
  cluster.setupPrimary({ exec: worker, execArgv: [] });
  const workers = Array.from({ length: 6 }, (_, number) =>
    number % 2 ? cluster.fork(environment) : new Worker(worker, { env: environment, execArgv: [] }),
  );
  const said = await Promise.all(workers.map(async (one) => (await once(one, "message"))[0]));
  assert.equal(said.reduce((sum, { executed }) => sum + executed, 0), 20);
  assert.equal(new Set(said.map(({ owner }) => owner)).size, 6);
  for (const { results } of said) assert.deepEqual(results, Array.from({ length: 20 }, (_, number) => number));
});

test("a slow and healthy consumer keeps its key", async () => {
  const scope = randomUUID();
  const take = () => ledger.dedup(scope, "order-1", { window: "1h", leaseMs: 450 });
  const lease = await take();
  let tried = 0;
  const slow = async (signal: AbortSignal) => {
    for (const end = performance.now() + 1_500; performance.now() < end; tried++) {
      await assert.rejects(take(), KeyLeased);
      await new Promise((done) => setTimeout(done, 100));
    }
    assert.equal(signal.aborted, false);
  };
  assert.equal(await lease.handle(slow), true);
  assert.ok(tried > 5);
  assert.equal(await (await take()).handle(() => assert.fail("handled before")), false);
});

test("a consumer that throws gives the key back at once", async () => {
  const scope = randomUUID();
  const take = () => ledger.dedup(scope, "order-1", { window: "1h", leaseMs: 60_000 });
  const lease = await take();
  await assert.rejects(lease.handle(() => Promise.reject(new Error("no database"))), /no database/);
  assert.equal(await (await take()).handle(() => {}), true);
  await assert.rejects(lease.heartbeat(), LeaseLost);
  await assert.rejects(lease.release(), LeaseLost);
});
