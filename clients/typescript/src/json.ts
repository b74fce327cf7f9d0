/** Values as JSON: what is kept of a result, and what names an input or a call. */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** What a value is once it was kept as JSON and read again. */
export type Kept<T> = 0 extends 1 & T
  ? T
  : T extends null | undefined | void
    ? null
    : T extends string | number | boolean
      ? T
      : T extends bigint | Date | URL | RegExp
        ? string
        : T extends Uint8Array | ArrayBuffer | DataView
          ? { base64: string }
          : T extends { toJSON(key?: any): infer V }
            ? Kept<V>
            : T extends ReadonlyMap<infer K, infer V>
              ? K extends string
                ? Record<K, Kept<V>>
                : [Kept<K>, Kept<V>][]
              : T extends ReadonlySet<infer V>
                ? Kept<V>[]
                : T extends readonly unknown[]
                  ? { [I in keyof T]: Kept<T[I]> }
                  : T extends (...given: never[]) => unknown
                    ? never
                    : T extends object
                      ? { [N in keyof T as T[N] extends (...given: never[]) => unknown ? never : N]: KeptMember<T[N]> }
                      : T;
/** A member that may be undefined is then left out. */
type KeptMember<T> = undefined extends T ? Kept<Exclude<T, undefined>> | (T extends null ? null : never) : Kept<T>;

/**
 * A hook for values that JSON has no form for: instances of classes, bigints, functions. What it gives is encoded in its place; undefined
 * leaves the value to the defaults. It may throw: the value then can't be encoded.
 */
export type Encode = (value: unknown) => unknown;

/** Thrown while encoding: why it can't be. */
export class NotEncodable extends TypeError {
  override readonly name = "NotEncodable";
}

/**
 * The value as JSON. By default: what has `toJSON` by it (Date, URL), bigint as decimal text, Map as an object where its keys are text and as
 * pairs where not, Set as an array, an Error as `{ type, message }` with its cause and own members, bytes as `{ base64 }`, NaN as its name.
 * Members without a form of their own are left out, as `JSON.stringify` does. Throws `NotEncodable` for a value without one: a function, a
 * circle, an instance with nothing in it to keep, such as a Response.
 */
export function encoded(value: unknown, hook?: Encode, isStrict = false): Json {
  try {
    const found = encode(value, { hook, isStrict }, []);
    if (found === undefined && value !== undefined) throw new NotEncodable(`${kindOf(value)} has no form in JSON`);
    return found ?? null;
  } catch (error) {
    // Whatever a hook, a getter or the depth of the value throws.
    if (error instanceof NotEncodable) throw error;
    throw new NotEncodable(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  }
}

interface Rules {
  readonly hook: Encode | undefined;
  /** NaN and the infinities are refused; else they are their names, which loses less than the null of `JSON.stringify`. */
  readonly isStrict: boolean;
}

/** Undefined where there is no form. */
function encode(value: unknown, rules: Rules, within: readonly unknown[]): Json | undefined {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") {
    if (Number.isFinite(value)) return value;
    if (rules.isStrict) throw new NotEncodable(`${value} is no number in JSON`);
    return String(value);
  }
  if (value === undefined) return undefined;
  if (typeof value === "object" && within.includes(value)) throw new NotEncodable("it contains itself");
  const inner = [...within, value];
  if (Array.isArray(value)) return Array.from(value, (item) => encode(item, rules, inner) ?? null);
  if (isPlain(value)) return hasToJson(value) ? encode(value.toJSON(""), rules, inner) : members(Object.entries(value), rules, inner);
  const given = rules.hook?.(value);
  if (given !== undefined) return encode(given, rules, inner);
  const simpler = byDefault(value);
  if (simpler !== undefined) return encode(simpler, rules, inner);
  if (typeof value !== "object") return undefined;
  const entries = Object.entries(value);
  if (entries.length === 0) throw new NotEncodable(`${kindOf(value)} has nothing in it that JSON can hold`);
  return members(entries, rules, inner);
}

function members(entries: readonly [string, unknown][], rules: Rules, within: readonly unknown[]): Json {
  const found: [string, Json][] = [];
  for (const [name, item] of entries) {
    const encodedItem = encode(item, rules, within);
    if (encodedItem !== undefined) found.push([name, encodedItem]);
  }
  return Object.fromEntries(found);
}

/** Something nearer to JSON; undefined where there is no default for its kind. */
function byDefault(value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return undefined;
  if (value instanceof ArrayBuffer) return { base64: base64(new Uint8Array(value)) };
  if (value instanceof Uint8Array || value instanceof DataView) {
    return { base64: base64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
  }
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>);
  if (value instanceof Map) {
    const pairs = [...value];
    return pairs.every(([key]) => typeof key === "string") ? Object.fromEntries(pairs as [string, unknown][]) : pairs;
  }
  if (value instanceof Set) return [...value];
  if (hasToJson(value)) return value.toJSON("") ?? null;
  if (value instanceof Error) {
    const { name, message, cause } = value;
    return { type: name, ...value, message, ...(cause !== undefined && { cause }) };
  }
  if (value instanceof RegExp || value instanceof URLSearchParams) return String(value);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) return value.valueOf();
  return undefined;
}

function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // One of another realm has another Object.prototype, above which there is nothing either.
  return prototype === null || (Object.getPrototypeOf(prototype) === null && "hasOwnProperty" in (prototype as object));
}

function hasToJson(value: object): value is { toJSON(key: string): unknown } {
  return "toJSON" in value && typeof value.toJSON === "function";
}

function kindOf(value: unknown): string {
  const name = typeof value === "object" && value !== null ? (value.constructor as { name?: string } | undefined)?.name : undefined;
  return name ? `an instance of ${name}` : `a ${typeof value}`;
}

function base64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 0x8000) parts.push(String.fromCharCode(...bytes.subarray(at, at + 0x8000)));
  return btoa(parts.join(""));
}

/** SHA-256 of the input's compact JSON with sorted keys; the same in all clients, as long as its numbers are integers. */
export async function inputHash(value: unknown): Promise<string> {
  return "sha256:" + (await sha256(written(encoded(value), byCodePoint)));
}

const TOOL_BYTES_MAX = 150;
const OCCURRENCE_MAX = 10_000;

/**
 * The name of the step that a call of a tool is: the tool, and the SHA-256 of its arguments' canonical JSON (RFC 8785). The n-th of its kind
 * has `#n` behind it. Throws where the arguments have no such form.
 */
export async function callStep(tool: string, args: unknown, occurrence = 1, hook?: Encode): Promise<string> {
  if (!isName(tool, TOOL_BYTES_MAX)) {
    throw new TypeError(`a tool's name has 1 to ${TOOL_BYTES_MAX} bytes without control characters, not ${shown(tool)}`);
  }
  if (!Number.isInteger(occurrence) || occurrence < 1 || occurrence > OCCURRENCE_MAX) {
    throw new RangeError(`occurrence: 1 to ${OCCURRENCE_MAX.toLocaleString("en")} of one call within a run, not ${occurrence}`);
  }
  const name = `call:${tool}:${await digestOf(args, hook)}`;
  return occurrence === 1 ? name : `${name}#${occurrence}`;
}

/**
 * RFC 8785. Its numbers and texts are ECMAScript's own (section 3.2.2), its keys in the order of their UTF-16 code units (3.2.3). Refused is
 * what two different values would be written alike for: a bigint that no double holds, NaN, half a character.
 */
export function canonicalJson(value: unknown, hook?: Encode): string {
  const asNumbers = (item: unknown): unknown => (typeof item === "bigint" ? exact(item) : hook?.(item));
  return written(encoded(value, asNumbers, true), (a, b) => (a < b ? -1 : 1), wellFormed);
}

/** In hex, the SHA-256 of the value's canonical JSON. */
export function digestOf(value: unknown, hook?: Encode): Promise<string> {
  return sha256(canonicalJson(value, hook));
}

function exact(value: bigint): number {
  if (BigInt(Number(value)) !== value) throw new NotEncodable(`${value} is beyond what a JSON number holds: give it as text`);
  return Number(value);
}

function wellFormed(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw new NotEncodable("a text with half a character (a lone surrogate) has no canonical JSON");
  return text;
}

/** As text, because an object puts keys that look like numbers first, whatever their order. */
function written(value: Json, order: (a: string, b: string) => number, checked = (text: string): string => text): string {
  if (typeof value === "string") return JSON.stringify(checked(value));
  if (Array.isArray(value)) return `[${value.map((item: Json) => written(item, order, checked)).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => order(a, b));
  return `{${entries.map(([name, item]) => `${JSON.stringify(checked(name))}:${written(item, order, checked)}`).join(",")}}`;
}

function byCodePoint(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const difference = left[at]!.codePointAt(0)! - right[at]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A text that every JSON parser takes, of so many characters at most. */
export function plainText(text: string, most: number): string {
  return [...text].slice(0, most).join("").replace(/\p{Surrogate}|\0/gu, "\ufffd");
}

const SHOWN_MAX = 500;

/** For people and models to read, cut where it is long. */
export function shown(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined;
  }
  text ??= String(value);
  return text.length <= SHOWN_MAX ? text : `${plainText(text, SHOWN_MAX)}…`;
}

/** Is it a text of so many bytes at most, and what the ledger takes as a name? */
export function isName(text: unknown, bytesMax: number): text is string {
  if (typeof text !== "string" || /[\u0000-\u001f\u007f-\u009f]/.test(text)) return false;
  const bytes = new TextEncoder().encode(text).length;
  return bytes >= 1 && bytes <= bytesMax;
}
