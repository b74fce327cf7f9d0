/** Tools of the AI SDK, called by its own loop with a fake model. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import { generateText, stepCountIs, streamText, tool } from "ai";
import { MockLanguageModelV3, simulateReadableStream } from "ai/test";
import { Ledger } from "hookonce";
import { contextOf, once } from "hookonce/ai";
import { z } from "zod";

import { Service, TOKEN } from "../../test/service.js";

let service: Service;
let ledger: Ledger;
before(async () => {
  service = await Service.start();
  ledger = new Ledger({ url: service.url, token: TOKEN, owner: "agent-1" });
});
after(() => service.stop());

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};

/** Plans these calls, one a step, then ends. It remembers what it was told of each. */
class Model {
  readonly told: any[] = [];
  readonly calls: readonly [string, object][];

  constructor(...calls: [string, object][]) {
    this.calls = calls;
  }

  get model() {
    let at = 0;
    const next = (prompt: { role: string; content: any }[]) => {
      for (const { role, content } of prompt.slice(-1)) if (role === "tool") this.told.push(...content.map((part: any) => part.output));
      const call = this.calls[at++];
      return call && { type: "tool-call" as const, toolCallId: `call-${at}`, toolName: call[0], input: JSON.stringify(call[1]) };
    };
    const reason = (call: unknown) => ({ unified: call ? ("tool-calls" as const) : ("stop" as const), raw: undefined });
    return new MockLanguageModelV3({
      doGenerate: async ({ prompt }) => {
        const call = next(prompt);
        return { content: [call ?? { type: "text", text: "Done." }], finishReason: reason(call), usage, warnings: [] };
      },
      doStream: async ({ prompt }) => {
        const call = next(prompt);
        const text = [{ type: "text-start" as const, id: "1" }, { type: "text-delta" as const, id: "1", delta: "Done." }, { type: "text-end" as const, id: "1" }];
        return {
          stream: simulateReadableStream({
            chunks: [{ type: "stream-start" as const, warnings: [] }, ...(call ? [call] : text), { type: "finish" as const, finishReason: reason(call), usage }],
          }),
        };
      },
    });
  }
}

interface Receipt {
  charge: string;
}

function till() {
  const charged: string[] = [];
  const charge = tool({
    description: "Charges a customer",
    inputSchema: z.object({ customer: z.string(), amount: z.number() }),
    execute: async ({ customer, amount }, options): Promise<Receipt> => {
      charged.push(`${customer} ${amount} ${contextOf(options).effectKey.length > 0} ${contextOf(options).run.name.length > 0}`);
      return { charge: `ch_${charged.length}` };
    },
  });
  return { charge, charged };
}

const five = { customer: "c", amount: 5 };
const stopWhen = stepCountIs(10);

test("a call that the model plans twice is done once, and the model is told", async () => {
  const { charge, charged } = till();
  const fake = new Model(["charge", five], ["charge", { amount: 5, customer: "c" }], ["charge", { ...five, amount: 6 }]);
  const tools = once({ charge }, { run: ledger.run(randomUUID()) });
  const { text, steps } = await generateText({ model: fake.model, tools, prompt: "Charge.", stopWhen });
  assert.equal(text, "Done.");
  assert.deepEqual(charged, ["c 5 true true", "c 6 true true"]);
  const [first, again, other] = fake.told;
  assert.deepEqual([first, other], [{ type: "json", value: { charge: "ch_1" } }, { type: "json", value: { charge: "ch_2" } }]);
  assert.equal(again.type, "text");
  assert.match(again.value, /^Not executed again: this same call was done at \S+Z by agent-1; this is its result\.\n\{"charge":"ch_1"\}$/);
  const output: Receipt | undefined = steps[1]!.staticToolResults[0]?.output;
  assert.deepEqual(output, { charge: "ch_1" }, "code gets what it would have got");
});

test("streamed, and in another process of the same conversation", async () => {
  const { charge, charged } = till();
  const run = randomUUID();
  for (const step of [1, 2]) {
    const fake = new Model(["charge", five]);
    const streamed = streamText({ model: fake.model, tools: once({ charge }, { run: () => ledger.run(run) }), prompt: "Charge.", stopWhen });
    assert.equal(await streamed.text, "Done.");
    assert.equal(/Not executed again/.test(JSON.stringify(fake.told)), step === 2);
  }
  assert.equal(charged.length, 1);
});

test("under ask the model gets an error that says what was done", async () => {
  const { charge, charged } = till();
  const fake = new Model(["charge", five], ["charge", five]);
  const tools = { charge: once(charge, { name: "charge", run: ledger.run(randomUUID()), repeat: "ask" }) };
  await generateText({ model: fake.model, tools, prompt: "Charge.", stopWhen });
  assert.equal(charged.length, 1);
  assert.match(fake.told[1].value, /^Not executed: charge was called before .* it was done at .* by agent-1\. Its result: \{"charge":"ch_1"\}/);
  assert.match(fake.told[1].type, /^error-/);
});

test("a lost call is an error that says that it is not executed again", async () => {
  const run = ledger.run(randomUUID());
  const broken = tool({ inputSchema: z.object({}), execute: async (): Promise<string> => Promise.reject(new Error("socket hang up")) });
  const fake = new Model(["broken", {}], ["broken", {}]);
  await generateText({ model: fake.model, tools: once({ broken }, { run }), prompt: "Go.", stopWhen });
  assert.match(fake.told[0].value, /socket hang up/);
  assert.match(fake.told[1].value, /^outcome unknown, not executed again/);
});

test("a result that can't be kept, a tool that yields, one with a model's output of its own, and one without execute", async () => {
  const run = ledger.run(randomUUID());
  let executed = 0;
  const tools = {
    ...once(
      {
        circle: tool({
          inputSchema: z.object({}),
          execute: async () => {
            executed++;
            return () => "no JSON";
          },
          toModelOutput: () => ({ type: "text", value: "a function" }),
        }),
        yields: tool({
          inputSchema: z.object({}),
          async *execute() {
            executed++;
            yield "so far";
            yield "at last";
          },
        }),
        shown: tool({
          inputSchema: z.object({}),
          execute: async () => ++executed,
          toModelOutput: ({ output }) => ({ type: "content", value: [{ type: "text", text: `picture ${output}` }] }),
        }),
      },
      { run },
    ),
  };
  const fake = new Model(["circle", {}], ["circle", {}], ["yields", {}], ["yields", {}], ["shown", {}], ["shown", {}]);
  await generateText({ model: fake.model, tools, prompt: "Go.", stopWhen });
  assert.equal(executed, 3);
  assert.match(fake.told[0].value, /^Executed now\. Its result was not kept \(not-encodable\)\.\na function$/);
  assert.match(fake.told[1].value, /; its result was not kept \(not-encodable\)\.\na function$/);
  assert.deepEqual(fake.told[2], { type: "text", value: "at last" });
  assert.match(fake.told[3].value, /this is its result\.\nat last$/);
  assert.deepEqual(fake.told[4].value, [{ type: "text", text: "picture 3" }]);
  assert.match(fake.told[5].value[0].text, /^Not executed again/);
  assert.deepEqual(fake.told[5].value[1], { type: "text", text: "picture 3" });
  const asked = tool({ inputSchema: z.object({ question: z.string() }), outputSchema: z.string() });
  assert.equal(once({ asked }, { run }).asked, asked);
});

test("who gives up has the tool told, and the step is unknown at once", async () => {
  const run = ledger.run(randomUUID());
  const caller = new AbortController();
  let heard = false;
  const slow = tool({
    inputSchema: z.object({}),
    execute: async (_, { abortSignal }): Promise<string> => {
      setTimeout(() => caller.abort(), 10);
      return new Promise((_, reject) => abortSignal!.addEventListener("abort", () => ((heard = true), reject(new Error("stopped")))));
    },
  });
  const fake = new Model(["slow", {}]);
  await generateText({ model: fake.model, tools: once({ slow }, { run, leaseMs: 60_000 }), prompt: "Go.", stopWhen, abortSignal: caller.signal }).catch(() => {});
  assert.ok(heard);
  assert.deepEqual([...(await run.resume()).values()].map(({ status }) => status), ["unknown"]);
});
