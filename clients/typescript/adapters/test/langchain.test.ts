/** Tools of LangChain.js, called by its own messages with a fake model. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import { AIMessage, type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { fakeModel } from "@langchain/core/testing";
import { DynamicTool, StructuredTool, tool } from "@langchain/core/tools";
import { Ledger, OutcomeUnknown, RepeatRefused } from "hookonce";
import { contextOf, once } from "hookonce/langchain";
import { z } from "zod";

import { Service, TOKEN } from "../../test/service.js";

let service: Service;
let ledger: Ledger;
before(async () => {
  service = await Service.start();
  ledger = new Ledger({ url: service.url, token: TOKEN, owner: "agent-1" });
});
after(() => service.stop());

const schema = z.object({ customer: z.string(), amount: z.number() });
const five = { customer: "c", amount: 5 };

/** The usual loop: what the tools answered, in order. */
async function loop(tools: { name: string; invoke(call: any): Promise<unknown> }[], ...calls: { name: string; args: object }[]): Promise<ToolMessage[]> {
  const model = calls.reduce((model, call) => model.respondWithTools([call]), fakeModel()).respond(new AIMessage("Done."));
  const bound = model.bindTools(tools as unknown as StructuredTool[]);
  const messages: BaseMessage[] = [new HumanMessage("Charge.")];
  for (;;) {
    const said = (await bound.invoke(messages)) as AIMessage;
    messages.push(said);
    if (!said.tool_calls?.length) return messages.filter((message) => message instanceof ToolMessage);
    for (const call of said.tool_calls) messages.push((await tools.find(({ name }) => name === call.name)!.invoke({ ...call, type: "tool_call" })) as ToolMessage);
  }
}

function till(format: "content" | "content_and_artifact" = "content") {
  const charged: string[] = [];
  const charge = tool(
    async ({ amount }, config) => {
      assert.ok(contextOf(config).effectKey.length > 0);
      charged.push(`ch_${charged.length + 1}`);
      return format === "content" ? { charge: charged.at(-1), amount } : [charged.at(-1), { amount }];
    },
    { name: "charge", description: "Charges a customer", schema, responseFormat: format },
  );
  return { charge, charged };
}

test("a call that the model plans twice is done once, and the model is told", async () => {
  const { charge, charged } = till();
  const charging = once(charge, { run: ledger.run(randomUUID()) });
  assert.ok(charging instanceof StructuredTool && charging.schema === charge.schema && charging.description === charge.description);
  const call = { name: "charge", args: five };
  const [first, again, other] = await loop([charging], call, call, { name: "charge", args: { ...five, amount: 6 } });
  assert.deepEqual([first!.content, other!.content], ['{"charge":"ch_1","amount":5}', '{"charge":"ch_2","amount":6}']);
  assert.match(String(again!.content), /^Not executed again: this same call was done at \S+Z by agent-1; this is its result\.\n\{"charge":"ch_1","amount":5\}$/);
  assert.equal(charged.length, 2);
  assert.deepEqual(await charging.invoke(five), { charge: "ch_1", amount: 5 }, "code gets what it would have got");
});

test("an artifact is kept beside the content", async () => {
  const { charge, charged } = till("content_and_artifact");
  const call = { name: "charge", args: five };
  const [first, again] = await loop([once(charge, { run: ledger.run(randomUUID()) })], call, call);
  assert.deepEqual([first!.content, first!.artifact, again!.artifact], ["ch_1", { amount: 5 }, { amount: 5 }]);
  assert.match(String(again!.content), /^Not executed again.*\nch_1$/);
  assert.equal(charged.length, 1);
});

test("under ask, and of a lost call, an error says what was done", async () => {
  const { charge, charged } = till();
  const run = ledger.run(randomUUID());
  const charging = once(charge, { run: () => run, repeat: "ask" });
  await charging.invoke(five);
  await assert.rejects(charging.invoke(five), RepeatRefused);
  assert.equal(charged.length, 1);
  const broken = once(tool(() => Promise.reject(new Error("socket hang up")), { name: "broken", description: "", schema }), { run });
  await assert.rejects(broken.invoke(five), /socket hang up/);
  await assert.rejects(broken.invoke(five), OutcomeUnknown);
});

test("classes with secrets of their own, plain text, generators and messages", async () => {
  const run = ledger.run(randomUUID());
  let executed = 0;
  class Secretive extends StructuredTool {
    readonly #key = "secret";
    name = "secretive";
    description = "";
    schema = schema;
    protected async _call() {
      return `${this.#key} ${++executed}`;
    }
  }
  const text = new DynamicTool({ name: "text", description: "", func: async (input) => `${input} ${++executed}` });
  const generator = tool(
    async function* () {
      yield "so far";
      return `at last ${++executed}`;
    },
    { name: "generator", description: "", schema },
  );
  const message = tool((_, config) => new ToolMessage({ content: `message ${++executed}`, tool_call_id: config.toolCall?.id ?? "" }), {
    name: "message",
    description: "",
    schema,
  });
  const [secretive, plain] = [once(new Secretive(), { run }), once(text, { run })];
  for (let time = 0; time < 2; time++) {
    assert.equal(await secretive.invoke(five), "secret 1");
    assert.equal(await plain.invoke("hello"), "hello 2");
  }
  const call = (name: string) => ({ name, args: five });
  const said = await loop([once(generator, { run }), once(message, { run })] as never, call("generator"), call("generator"), call("message"), call("message"));
  assert.deepEqual(said.map(({ content }) => String(content).replace(/^Not executed again.*\n/, "again: ")), [
    "at last 3",
    "again: at last 3",
    "message 4",
    "again: message 4",
  ]);
  assert.equal(executed, 4);
});

test("who gives up has the tool told, and the step is unknown at once", async () => {
  const run = ledger.run(randomUUID());
  const caller = new AbortController();
  const slow = tool(
    async (_, { signal }): Promise<string> => {
      setTimeout(() => caller.abort(), 10);
      return new Promise((_, reject) => signal!.addEventListener("abort", () => reject(new Error("stopped"))));
    },
    { name: "slow", description: "", schema },
  );
  await assert.rejects(once(slow, { run, leaseMs: 60_000 }).invoke(five, { signal: caller.signal }));
  assert.deepEqual([...(await run.resume()).values()].map(({ status }) => status), ["unknown"]);
});
