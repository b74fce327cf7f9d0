/** Tools of LangChain.js whose calls are done once. */

import type { Context } from "./holder.js";
import { needs } from "./needs.js";
import type { CallOptions, Run } from "./run.js";

export { Ledger } from "./index.js";

needs("langchain", "@langchain/core", () => import("@langchain/core/tools"));

export interface ToolOptions extends Omit<CallOptions, "signal"> {
  /** What the calls are once in: a thread, a job. */
  run: Run | (() => Run);
}

/** As much of a `StructuredTool` as is needed; `_call` is protected there. */
interface AnyTool {
  name: string;
  invoke(input: any, config?: any): unknown;
}
interface Callable {
  readonly responseFormat?: string;
  _call(input: unknown, manager: unknown, config: Config): unknown;
}
interface Config {
  readonly signal?: AbortSignal;
  readonly toolCall?: { readonly id?: string };
  readonly configurable?: Record<string, unknown>;
}

const CONTEXT = "hookonce";

/**
 * The tool with calls that are done once each: `once(charge, { run })`. A call that the model plans again gets the first result, with a
 * sentence for the model that it is one; under `repeat: "ask"` an error says what was done. Of a tool that returns a `ToolMessage` the content
 * is kept, of a `Command` nothing.
 */
export function once<T extends AnyTool>(tool: T, { run, ...options }: ToolOptions): T {
  const original = tool as unknown as Callable;
  const copy = Object.create(Object.getPrototypeOf(tool), Object.getOwnPropertyDescriptors(tool)) as T & Callable;
  copy._call = async (input, manager, config) => {
    const within = typeof run === "function" ? run() : run;
    let returned: unknown;
    const work = async (context: Context) => {
      const configurable = { ...config?.configurable, [CONTEXT]: context };
      returned = await returnedBy(original._call(input, manager, { ...config, signal: context.signal, configurable }));
      return isDirect(returned) ? (returned.content ?? null) : returned;
    };
    const outcome = await within.call(tool.name, input, work, { ...options, ...(config?.signal && { signal: config.signal }) });
    if (outcome.replayedAt === null) return isDirect(returned) ? returned : outcome.result;
    // Code that calls the tool gets what it would have got; a model is told.
    if (config?.toolCall?.id === undefined) return outcome.result;
    if (original.responseFormat !== "content_and_artifact") return withNote(outcome.message, outcome.result);
    const [content, artifact] = (outcome.result ?? [null, null]) as readonly unknown[];
    return [withNote(outcome.message, content), artifact];
  };
  return copy;
}

/** The context of the step, from the config that the tool's function gets: `contextOf(config).effectKey` goes to whoever is to do something. */
export function contextOf(config: { configurable?: Record<string, any> } | undefined): Context {
  const context = config?.configurable?.[CONTEXT] as Context | undefined;
  if (context === undefined) throw new TypeError("contextOf: this is not the config that a tool within `once` gets");
  return context;
}

/** A `ToolMessage` or a `Command`, which LangChain passes on as it is. */
function isDirect(value: unknown): value is { content?: unknown } {
  return typeof value === "object" && value !== null && "lc_direct_tool_output" in value && value.lc_direct_tool_output === true;
}

function withNote(said: string, content: unknown): unknown {
  const isBlocks = Array.isArray(content) && content.length > 0 && content.every((block) => typeof block === "object" && block !== null && "type" in block);
  if (isBlocks) return [{ type: "text", text: said }, ...content];
  return `${said}\n${typeof content === "string" ? content : JSON.stringify(content ?? null)}`;
}

/** Of a generator, what it returns at its end: as LangChain takes it. */
async function returnedBy(given: unknown): Promise<unknown> {
  const result = await given;
  if (typeof result !== "object" || result === null || !(Symbol.asyncIterator in result) || !("next" in result)) return result;
  const generator = result as AsyncGenerator<unknown, unknown>;
  for (;;) {
    const { done, value } = await generator.next();
    if (done) return value;
  }
}
