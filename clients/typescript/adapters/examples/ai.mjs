/** An agent of the AI SDK, killed between the charge and its record: `node examples/ai.mjs` */

import { generateText, stepCountIs, tool } from "ai";
import { MockLanguageModelV3 } from "ai/test";
import { Ledger } from "hookonce";
import { contextOf, once } from "hookonce/ai";
import { z } from "zod";

import { charge, LEASE_MS, reconcile } from "./effect.mjs";
import { main } from "./killed.mjs";

const usage = {
  inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 },
};
/** Plans one charge, whatever it was told before, then ends. */
const model = new MockLanguageModelV3({
  doGenerate: async ({ prompt }) =>
    prompt.some(({ role }) => role === "tool")
      ? { content: [{ type: "text", text: "Charged." }], finishReason: { unified: "stop" }, usage, warnings: [] }
      : {
          content: [{ type: "tool-call", toolCallId: "call-1", toolName: "charge", input: '{"order":1}' }],
          finishReason: { unified: "tool-calls" },
          usage,
          warnings: [],
        },
});

async function life(isWith) {
  const tools = {
    charge: tool({
      inputSchema: z.object({ order: z.number() }),
      execute: ({ order }, options) => charge(order, isWith ? contextOf(options).effectKey : null),
    }),
  };
  const run = isWith && new Ledger().run(`agent ${process.env.RUN}`);
  const { text } = await generateText({
    model,
    tools: isWith ? once(tools, { run, leaseMs: LEASE_MS, reconcile }) : tools,
    prompt: "Charge order 1.",
    stopWhen: stepCountIs(3),
  });
  if (text !== "Charged.") throw new Error(text);
}

await main(import.meta.url, { life });
