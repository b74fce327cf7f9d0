/** Tools of the AI SDK (`ai`) whose calls are done once. */

import type { Context } from "./holder.js";
import { needs } from "./needs.js";
import type { StepOutcome } from "./outcome.js";
import type { CallOptions, Run } from "./run.js";

export { Ledger } from "./index.js";

needs("ai", "ai", () => import("ai"));

export interface ToolOptions extends Omit<CallOptions, "signal"> {
  /** What the calls are once in: a conversation, a job. */
  run: Run | (() => Run);
}

/** As much of a tool as is needed. */
interface AnyTool {
  execute?: ((input: any, options: any) => unknown) | undefined;
  toModelOutput?: ((given: any) => unknown) | undefined;
}
interface ModelOutput {
  readonly type: string;
  readonly value: any;
}

const CONTEXT = Symbol.for("hookonce.context");
const NOTES_MAX = 1_000;

/**
 * The tools, by their names, with calls that are done once each: `tools: once({ charge: tool({ … }) }, { run })`. A call that the model plans again
 * gets the first result, with a sentence for the model that it is one; under `repeat: "ask"` it gets an error that says what was done. Tools
 * without `execute` stay as they are. Of a tool that yields, the last value is its result.
 */
export function once<T extends Record<string, object>>(tools: T, options: ToolOptions & { name?: undefined }): T;
/** One tool, by the name that the model knows it by. */
export function once<T extends object>(tool: T, options: ToolOptions & { name: string }): T;
export function once(given: object, { name, ...options }: ToolOptions & { name?: string | undefined }): object {
  if (name !== undefined) return wrapped(given, name, options);
  return Object.fromEntries(Object.entries(given).map(([key, tool]) => [key, wrapped(tool as AnyTool, key, options)]));
}

/** The context of the step, from the options that `execute` gets: `contextOf(options).effectKey` goes to whoever is to do something. */
export function contextOf(options: object): Context {
  const context = (options as { [CONTEXT]?: Context })[CONTEXT];
  if (context === undefined) throw new TypeError("contextOf: these are not the options that `execute` of a tool within `once` gets");
  return context;
}

function wrapped(tool: AnyTool, name: string, { run, ...options }: ToolOptions): AnyTool {
  if (tool.execute === undefined) return tool;
  const notes = new Map<string, string>();
  return {
    ...tool,
    async execute(input: unknown, given: { toolCallId?: string; abortSignal?: AbortSignal }) {
      const within = typeof run === "function" ? run() : run;
      const work = (context: Context) => last(tool.execute!(input, { ...given, abortSignal: context.signal, [CONTEXT]: context }));
      const outcome = await within.call(name, input, work, { ...options, ...(given.abortSignal && { signal: given.abortSignal }) });
      if (given.toolCallId !== undefined) note(notes, given.toolCallId, outcome);
      return outcome.result;
    },
    async toModelOutput(given: { toolCallId?: string; output?: unknown }) {
      const said = notes.get(given.toolCallId ?? "");
      const output = ((await tool.toModelOutput?.(given)) ?? byDefault(given.output)) as ModelOutput;
      return said === undefined ? output : withNote(output, said);
    },
  };
}

/** As the AI SDK does by itself. */
function byDefault(output: unknown): ModelOutput {
  return typeof output === "string" ? { type: "text", value: output } : { type: "json", value: output ?? null };
}

function note(notes: Map<string, string>, call: string, { replayedAt, resultNotKept, message }: StepOutcome<unknown>): void {
  if (replayedAt === null && resultNotKept === null) return;
  notes.set(call, message);
  for (const oldest of [...notes.keys()].slice(0, Math.max(0, notes.size - NOTES_MAX))) notes.delete(oldest);
}

function withNote({ type, value }: ModelOutput, said: string): ModelOutput {
  if (type === "content") return { type, value: [{ type: "text", text: said }, ...value] };
  return { type: type === "json" ? "text" : type, value: `${said}\n${typeof value === "string" ? value : JSON.stringify(value)}` };
}

/** What a tool came to, which may have yielded what it had so far. */
async function last(given: unknown): Promise<unknown> {
  const result = await given;
  if (typeof result !== "object" || result === null || !(Symbol.asyncIterator in result)) return result;
  let value: unknown;
  for await (value of result as AsyncIterable<unknown>);
  return value;
}
