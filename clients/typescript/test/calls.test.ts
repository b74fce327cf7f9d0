/** Tool calls by their arguments, what JSON becomes of values, and outcomes. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import {
  callStep,
  canonicalJson,
  type Context,
  type Kept,
  Ledger,
  NotExecuted,
  OutcomeUnknown,
  Refused,
  RepeatRefused,
  ResultNotKept,
  type Run,
  StepFailed,
} from "../src/index.js";
import { CLIENTS, Service, TOKEN } from "./service.js";

const { calls, calls_refused: refused } = JSON.parse(readFileSync(join(CLIENTS, "conformance.json"), "utf8"));

for (const { name, tool, arguments: given, occurrence = 1, canonical, step } of calls) {
  test(`call: ${name}`, async () => {
    assert.equal(canonicalJson(given), canonical);
    assert.equal(await callStep(tool, given, occurrence), step);
  });
}

for (const { name, tool, arguments_text: text } of refused) {
  test(`call: refused is ${name}`, async () => {
    // JSON.parse rounds such an integer: only as a bigint can it come so far.
    const asBigint = (integer: string): string => (Number.isSafeInteger(Number(integer)) ? integer : `{"bigint":"${integer}"}`);
    const given = JSON.parse(text.replace(/-?[0-9]{16,}/g, asBigint), (_, value) => (value?.bigint ? BigInt(value.bigint) : value));
    await assert.rejects(callStep(tool, given), TypeError);
  });
}

test("call: what names no call is refused before anything is asked", async () => {
  await assert.rejects(callStep("", {}), TypeError);
  await assert.rejects(callStep("ü".repeat(76), {}), TypeError);
  await assert.rejects(callStep("t", {}, 10_001), RangeError);
  await assert.rejects(callStep("t", { at: NaN }), TypeError);
  await assert.rejects(callStep("t", () => 1), TypeError);
  assert.equal(await callStep("t", { n: 500n }), await callStep("t", { n: 500 }));
  const never = new Ledger({ fetch: () => assert.fail("nothing is to be asked") }).run("r");
  await assert.rejects(never.call("t", {}, () => 1, { repeat: { after: "soon" } }), TypeError);
});

let service: Service;
let ledger: Ledger;
before(async () => {
  service = await Service.start();
  ledger = new Ledger({ url: service.url, token: TOKEN, owner: "worker-7" });
});
after(() => service.stop());

/** A tool that counts what it did. */
class Till {
  readonly charged: string[] = [];
  charge = () => {
    this.charged.push(`ch_${this.charged.length + 1}`);
    return this.charged.at(-1)!;
  };
}

test("once: a planned repeat gets the first result, and is told", async () => {
  const [till, run] = [new Till(), ledger.run(randomUUID())];
  const first = await run.call("charge", { customer: "c", amount: 5 }, till.charge);
  assert.deepEqual([first.result, first.replayedAt, first.message], ["ch_1", null, "Executed now."]);
  const again = await ledger.run(run.name).call("charge", { amount: 5, customer: "c" }, till.charge);
  assert.deepEqual([again.result, again.owner, again.status], ["ch_1", "worker-7", "done"]);
  assert.ok(Date.parse(again.replayedAt!) >= Date.parse(again.endedAt!), JSON.stringify(again));
  assert.match(again.message, /^Not executed again: this same call was done at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by worker-7; this is its result\.$/);
  assert.equal((await run.call("charge", { customer: "c", amount: 6 }, till.charge)).result, "ch_2");
  assert.equal(till.charged.length, 2);
});

test("ask: a repeat is refused with what was done", async () => {
  const [till, name] = [new Till(), randomUUID()];
  await ledger.run(name).call("charge", [1], till.charge, { repeat: "ask" });
  await assert.rejects(ledger.run(name).call("charge", [1], till.charge, { repeat: "ask" }), (error) => {
    assert.ok(error instanceof RepeatRefused);
    assert.deepEqual([error.tool, error.args, error.outcome.result, error.outcome.owner], ["charge", [1], "ch_1", "worker-7"]);
    assert.match(error.message, /it was done at .* by worker-7\. Its result: "ch_1"\..*repeat "once".*repeat "numbered"/);
    return true;
  });
  const declined = () => Promise.reject(new StepFailed("declined"));
  await assert.rejects(ledger.run(name).call("refund", [1], declined, { repeat: "ask" }), StepFailed);
  await assert.rejects(ledger.run(name).call("refund", [1], till.charge, { repeat: "ask" }), (error) => {
    assert.ok(error instanceof StepFailed);
    assert.deepEqual([error.error, error.outcome?.status, error.outcome?.owner], ["declined", "failed", "worker-7"]);
    return true;
  });
  // Asked, somebody says: once more.
  const run = ledger.run(name);
  await assert.rejects(run.call("charge", [1], till.charge, { repeat: "ask" }), RepeatRefused);
  assert.equal((await run.call("charge", [1], till.charge, { repeat: "numbered" })).result, "ch_2");
});

test("numbered: wanted repeats go by occurrence, and a restarted plan meets the same steps", async () => {
  const [till, name] = [new Till(), randomUUID()];
  const plan = async (run: Run, times: number) => {
    const results = [];
    for (let time = 0; time < times; time++) results.push((await run.call("charge", {}, till.charge, { repeat: "numbered" })).result);
    return results;
  };
  assert.deepEqual(await plan(ledger.run(name), 2), ["ch_1", "ch_2"]);
  assert.deepEqual(await plan(ledger.run(name), 3), ["ch_1", "ch_2", "ch_3"]);
  assert.deepEqual([...(await ledger.run(name).resume()).keys()].map((step) => step.replace(/^.*[0-9a-f]{64}/, "")).sort(), ["", "#2", "#3"]);
});

test("numbered: a call that did not end has not used its number", async () => {
  const [till, run] = [new Till(), ledger.run(randomUUID())];
  const numbered = { repeat: "numbered" } as const;
  const busy = () => Promise.reject(new NotExecuted("busy"));
  await assert.rejects(run.call("charge", {}, busy, numbered), NotExecuted);
  assert.equal((await run.call("charge", {}, till.charge, numbered)).result, "ch_1");
  await assert.rejects(run.call("charge", {}, () => Promise.reject(new Error("broken off")), numbered), /broken off/);
  // The model plans it again: it is the same one, of which nobody knows.
  await assert.rejects(run.call("charge", {}, till.charge, numbered), OutcomeUnknown);
  assert.equal(till.charged.length, 1);
});

test("after: the first result answers for so long, by the ledger's clock", async () => {
  const [till, run] = [new Till(), ledger.run(randomUUID())];
  const call = (after: string) => run.call("charge", {}, till.charge, { repeat: { after } });
  assert.equal((await call("10m")).result, "ch_1");
  assert.equal((await call("10m")).result, "ch_1");
  assert.equal((await call("1ms")).result, "ch_2");
  await run.resume();
  const last = await call("10m");
  assert.deepEqual([last.result, typeof last.replayedAt], ["ch_1", "string"], "of two that are fresh the first answers");
  assert.equal(till.charged.length, 2);
});

test("a function whose calls are done once each is known by all its arguments", async () => {
  const done: unknown[][] = [];
  const run = randomUUID();
  const send = ledger.once("send", (context, to: string, about: string, more?: { at: Date }) => {
    assert.equal(context.run.name, run);
    return done.push([to, about, more]);
  }, { run });
  assert.equal(await send("1:2", "3"), 1);
  assert.equal(await send("1", "2:3"), 2, "joined texts would collide");
  assert.equal(await send("1", "2:3", { at: new Date(0) }), 3);
  assert.equal(await send("1", "2:3", { at: new Date(1) }), 4);
  assert.equal(await send("1", "2:3", { at: new Date(0) }), 3);
  assert.equal(done.length, 4);
  const unclear = ledger.once("unclear", (_, given: unknown) => done.push([given]), { run });
  await assert.rejects(unclear(() => 1), /argument 1 is a function, which can't be JSON: say with `identity`/);
  const narrow = ledger.once("narrow", (_, order: { id: number; seen: () => void }) => done.push([order.id]), {
    run: (order) => `${run} ${order.id}`,
    identity: (order) => order.id,
  });
  assert.equal(await narrow({ id: 1, seen: () => {} }), 5);
  assert.equal(await narrow({ id: 1, seen: () => {} }), 5);
});

interface Charge {
  id: string;
  amount: bigint;
  at: Date;
  lines: Map<string, number>;
  tags: Set<string>;
  receipt: Uint8Array;
  problem: Error;
  url: URL;
  note?: string;
  ratio: number;
  refund(): void;
}

test("results are encoded by defaults, and are the same the first time as every time after", async () => {
  const run = ledger.run(randomUUID());
  const charge: Charge = {
    id: "ch_1",
    amount: 9007199254740993n,
    at: new Date("2026-11-27T10:00:00Z"),
    lines: new Map([["a", 1]]),
    tags: new Set(["x", "y"]),
    receipt: new Uint8Array([1, 2, 255]),
    problem: Object.assign(new RangeError("declined", { cause: "no money" }), { code: 51 }),
    url: new URL("http://bank/ch_1"),
    ratio: Infinity,
    refund() {},
  };
  const wanted = {
    id: "ch_1",
    amount: "9007199254740993",
    at: "2026-11-27T10:00:00.000Z",
    lines: { a: 1 },
    tags: ["x", "y"],
    receipt: { base64: "AQL/" },
    problem: { type: "RangeError", code: 51, message: "declined", cause: "no money" },
    url: "http://bank/ch_1",
    ratio: "Infinity",
  };
  for (let time = 0; time < 2; time++) {
    const got: Kept<Charge> = await run.execute("charge", () => charge);
    const [amount, at, lines]: [string, string, Record<string, number>] = [got.amount, got.at, got.lines];
    assert.deepEqual(got, wanted);
    assert.deepEqual([amount, at, lines], [wanted.amount, wanted.at, wanted.lines]);
  }
  assert.deepEqual(await run.execute("pairs", () => new Map([[1, [undefined, Buffer.from("ü")]]])), [[1, [null, { base64: "w7w=" }]]]);
  assert.equal(await run.execute("nothing", () => {}), null);
});

test("a hook encodes what is an application's own", async () => {
  class Money {
    constructor(private readonly cents: number) {}
    get text() {
      return `${this.cents / 100} EUR`;
    }
  }
  const encode = (value: unknown) => (value instanceof Money ? value.text : undefined);
  const run = new Ledger({ url: service.url, token: TOKEN, encode }).run(randomUUID());
  assert.deepEqual(await run.execute("s", () => ({ paid: [new Money(150)], at: new Date(0) })) as unknown, {
    paid: ["1.5 EUR"],
    at: "1970-01-01T00:00:00.000Z",
  });
});

const circle: Record<string, unknown> = {};
circle.self = circle;
for (const [what, value] of Object.entries({
  "a function": () => 1,
  "a circle": circle,
  "a Response": new Response("what a fetch gave"),
  "a getter that throws": Object.defineProperty({}, "x", { enumerable: true, get: () => { throw new Error("gone"); } }),
  "a value that is too deep": Array.from({ length: 100_000 }).reduce((inner) => [inner], []),
  "a text of 2 MiB": "x".repeat(2 << 20),
})) {
  test(`the work behind a result that can't be kept is done once: ${what}`, async () => {
    const run = ledger.run(randomUUID());
    let executed = 0;
    const work = () => {
      executed++;
      return value;
    };
    for (const onLost of ["hold", "retry"] as const) {
      const first = await run.outcome(onLost, work, { onLost });
      assert.equal(first.result as unknown, value, "who executed it has it");
      const reason = typeof value === "string" ? "too-large" : "not-encodable";
      assert.equal(first.resultNotKept?.reason, reason);
      assert.match(first.message, /^Executed now\. Its result was not kept/);
      const again = await run.outcome(onLost, work, { onLost });
      assert.deepEqual([again.result, again.resultNotKept?.reason], [null, reason]);
      assert.match(again.message, /^Not executed again: .*; its result was not kept \((too-large|not-encodable)\)\.$/);
      await assert.rejects(run.execute(onLost, work, { onLost }), ResultNotKept);
      assert.equal((await run.resume()).get(onLost)?.resultNotKept?.reason, reason);
      await assert.rejects(run.execute(onLost, work, { onLost }), ResultNotKept);
    }
    assert.equal(executed, 2);
  });
}

test("an emitted event is checked when it is called", async () => {
  const run = ledger.run(randomUUID());
  const emit = (...given: Parameters<Context["emit"]>) =>
    run.execute(randomUUID(), (context) => context.emit(...given), { onLost: "retry" });
  await assert.rejects(emit("", {}), /emit: its type is a text of 1 to 255 bytes/);
  await assert.rejects(emit("a\nb", {}), TypeError);
  await assert.rejects(emit("paid", {}, { key: "k".repeat(1025) }), /emit: its key/);
  await assert.rejects(emit("paid", () => 1), TypeError);
  interface Paid {
    order: number;
    at: Date;
  }
  const paid: Paid = { order: 1, at: new Date(0) };
  await emit("calls.paid", paid);
});

test("events that the ledger refuses leave the step unknown at once, with what was done", async () => {
  const run = ledger.run(randomUUID());
  const work = (context: Context) => {
    context.emit("paid", {}, { source: "nobody-configured-it" });
    return { charge: "ch_1" };
  };
  await assert.rejects(run.execute("s", work, { leaseMs: 60_000 }), Refused);
  await assert.rejects(run.execute("s", () => "twice"), (error) => {
    assert.ok(error instanceof OutcomeUnknown);
    const { refused, result } = error.error as { refused: string; result: string };
    assert.match(refused, /unknown-source/);
    assert.equal(result, '{"charge":"ch_1"}');
    return error.owner === "worker-7" && typeof error.effectKey === "string";
  });
});
